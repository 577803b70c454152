#include "accounts/people.hpp"

namespace nebula::accounts {

void PeopleSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "sign_up",
         .help =
             "Who may sign up: everybody, who was invited by mail, or nobody (the operator creates users).",
         .one_of = {"open", "invite", "closed"}},
        sign_up);
    v.field({.name = "public_url",
             .help = "Address of the console as people see it, for links in mails and single sign-on. Empty: "
                     "http:// and the listening address."},
            public_url);
    v.field({.name = "verify_email",
             .help = "A new user becomes active by a mailed link only. Without SMTP the link is in the log."},
            verify_email);
    v.field({.name = "session_lifetime",
             .help = "A session in the console ends after this time, in milliseconds.",
             .min = 60'000},
            session_lifetime);
    v.field({.name = "session_idle",
             .help = "A session that is not used ends after this time, in milliseconds.",
             .min = 60'000},
            session_idle);
    v.field({.name = "token_lifetime",
             .help = "How long a token of POST /api/v1/login is good, in milliseconds.",
             .min = 60'000},
            token_lifetime);
    v.field(
        {.name = "failures_before_lockout",
         .help =
             "Failed sign-ins of one address that cost nothing; from then on each next attempt has to wait "
             "1 s, 2 s, 4 s and so on, up to 15 minutes.",
         .min = 1,
         .max = 1'000},
        failures_before_lockout);
    v.field({.name = "sign_in_ip_rpm",
             .help = "Sign-ins, sign-ups and password resets per minute and IP address; 0 = no limit.",
             .max = 1'000'000},
            sign_in_ip_rpm);
    v.field(
        {.name = "secure_cookies",
         .help = "Browsers send the session cookie over TLS only. On by itself when public_url is https."},
        secure_cookies);
    v.field({.name = "default_plan", .help = "Plan that a new user is subscribed to; empty = none."},
            default_plan);
    v.field({.name = "sign_up_credits",
             .help = "Credits given to a new user at activation, as a decimal number; empty = none."},
            sign_up_credits);
}

void SmtpSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "host",
         .help =
             "Mail server with port (\"smtp.example.com:587\"; \"smtps://smtp.example.com\" for TLS from the "
             "first byte). Empty: mails are written to the log."},
        host);
    v.field({.name = "username", .help = "User at the mail server; empty = none."}, username);
    v.field({.name = "password_env", .help = "Environment variable that holds the mail server's password."},
            password_env);
    v.field({.name = "from", .help = "Sender of the mails."}, from);
    v.field({.name = "require_tls", .help = "Send nothing to a mail server that offers no TLS."},
            require_tls);
    v.field({.name = "timeout", .help = "Longest time to send one mail, in milliseconds.", .min = 1'000},
            timeout);
}

void OidcSettings::describe(settings::Visitor& v) {
    v.field({.name = "issuer",
             .help = "OpenID Connect provider to sign in with (\"https://login.example.com\"); empty = off."},
            issuer);
    v.field({.name = "client_id", .help = "Name of this program at the provider."}, client_id);
    v.field(
        {.name = "client_secret_env",
         .help =
             "Environment variable that holds the secret of this program at the provider; empty: a public "
             "client."},
        client_secret_env);
    v.field({.name = "name", .help = "What the sign-in page calls the provider."}, name);
    v.field({.name = "scopes", .help = "What the provider is asked for; openid and email are needed."},
            scopes);
    v.field({.name = "allowed_domains",
             .help = "Domains of e-mail addresses that may sign in through the provider; empty = all."},
            allowed_domains);
}

}  // namespace nebula::accounts
