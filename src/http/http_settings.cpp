#include "http/http.hpp"

namespace nebula::http {

void HttpSettings::describe(settings::Visitor& v) {
    v.field({.name = "listen", .help = "Address and port; port 0 takes any free one."}, listen);
    v.field({.name = "threads", .help = "I/O threads; 0 = one per core.", .max = 1024}, threads);
    v.field({.name = "connections_max", .help = "Open client connections; further ones get 503.", .min = 1},
            connections_max);
    v.field({.name = "head_bytes_max",
             .help = "Largest request line and headers together, in bytes.",
             .min = 1024,
             .max = 1024 * 1024},
            head_bytes_max);
    v.field({.name = "body_bytes_max", .help = "Largest request body, in bytes.", .min = 1024},
            body_bytes_max);
    v.field({.name = "buffered_bytes_max",
             .help = "All request bodies in memory together, in bytes.",
             .min = 1024 * 1024},
            buffered_bytes_max);
    v.field({.name = "head_timeout_ms",
             .help = "From the first byte of a request's head to its last.",
             .min = 10},
            head_timeout);
    v.field({.name = "body_timeout_ms", .help = "Longest silence while a request body arrives.", .min = 10},
            body_timeout);
    v.field({.name = "idle_timeout_ms", .help = "A connection without a request is closed then.", .min = 10},
            idle_timeout);
    v.field({.name = "write_timeout_ms",
             .help = "A client that reads nothing for so long is cut off.",
             .min = 10},
            write_timeout);
    v.field({.name = "drain_timeout_ms", .help = "How long running requests may take after SIGTERM."},
            drain_timeout);
    v.field(
        {.name = "tls_cert", .help = "PEM file with the certificate chain; with tls_key switches TLS on."},
        tls_cert);
    v.field({.name = "tls_key", .help = "PEM file with the private key."}, tls_key);
    v.field({.name = "cors_origins", .help = "Origins whose web pages may call; \"*\" = any, empty = none."},
            cors_origins);
}

}  // namespace nebula::http
