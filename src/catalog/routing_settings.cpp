// Settings of who answers which request: providers' facts, routes' own prices, strategies, aliases.
#include "catalog/catalog.hpp"

namespace nebula::catalog {

using settings::Apply;

namespace {
constexpr auto live = Apply::live;
}

void ProviderSettings::describe_routing(settings::Visitor& v) {
    v.field({.name = "slug",
             .help = "Name that requests choose it by (provider.order, only, ignore); empty: name.",
             .apply = live},
            slug);
    v.field({.name = "data_collection",
             .help = "Whether it may keep or learn from what it is sent. Requests with "
                     "provider.data_collection = \"deny\" go only to providers with deny.",
             .apply = live,
             .one_of = {"allow", "deny"}},
            data_collection);
    v.field(
        {.name = "zdr",
         .help = "It keeps nothing at all (zero data retention); requests with provider.zdr go only there.",
         .apply = live},
        zdr);
    v.field({.name = "supported_parameters",
             .help = "Members of a request that it honours; empty: all. Requests with "
                     "provider.require_parameters go only where all of theirs are.",
             .apply = live},
            supported_parameters);
    v.field({.name = "region", .help = "Where it computes, for the lists of endpoints.", .apply = live},
            region);
    v.field({.name = "passes_routing",
             .help = "It chooses routes itself: gets the members provider, route, session_id and transforms, "
                     "which others never see.",
             .apply = live},
            passes_routing);
    v.field({.name = "queue_max",
             .help = "Requests that wait for a call of theirs to become possible; accounts take turns. 0: "
                     "beyond concurrency_max requests are refused at once.",
             .apply = live,
             .max = 1'000'000},
            queue_max);
    v.field({.name = "queue_timeout_ms", .help = "Longest wait there.", .apply = live, .min = 1},
            queue_timeout);
    v.field({.name = "probe_path",
             .help = "Path at its origin that is asked in the background, as /health; answers below 500 mean "
                     "that it lives. Empty: no probes.",
             .apply = live},
            probe_path);
    v.field({.name = "probe_interval_ms",
             .help = "Between two probes; 0: no probes.",
             .apply = live,
             .max = 86'400'000},
            probe_interval);
}

void RouteSettings::describe(settings::Visitor& v) {
    v.field({.name = "provider", .help = "Name of a [[provider]].", .apply = live, .required = true},
            provider);
    v.field({.name = "model", .help = "The provider's name of the model; empty: the same.", .apply = live},
            model);
    v.field({.name = "weight",
             .help = "Share of the requests when the strategy is weighted.",
             .apply = live,
             .min = 1,
             .max = 1'000'000},
            weight);
    v.field(
        {.name = "price_input_per_m",
         .help =
             "USD per million prompt tokens when this route answers, as decimal text; empty: the model's.",
         .apply = live},
        price_input_per_m);
    v.field({.name = "price_output_per_m",
             .help = "The same of answer tokens, reasoning included.",
             .apply = live},
            price_output_per_m);
    v.field({.name = "price_cached_input_per_m", .help = "The same of cached prompt tokens.", .apply = live},
            price_cached_input_per_m);
    v.field({.name = "price_request",
             .help = "USD per request, on top of the tokens; empty: the model's.",
             .apply = live},
            price_request);
    v.field({.name = "quantization",
             .help = "Of the weights there; requests may demand it (provider.quantizations).",
             .apply = live,
             .one_of = {"unknown", "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16",
                        "bf16", "fp32"}},
            quantization);
    v.field(
        {.name = "tag", .help = "Variant of this provider: requests may name \"slug/tag\".", .apply = live},
        tag);
}

void ModelSettings::describe_routing(settings::Visitor& v) {
    v.field(
        {.name = "strategy",
         .help = "weighted: spread by weight; ordered: the first that works; price: at random by 1/price², "
                 "recently failing routes last; latency: soonest first token; throughput: most tokens per "
                 "second; least-busy: fewest calls in progress. Others are tried when one fails.",
         .apply = live,
         .one_of = {"weighted", "ordered", "price", "latency", "throughput", "least-busy"}},
        strategy);
    v.field({.name = "affinity",
             .help = "What keeps requests on one route, for its caches, where the strategy leaves a choice. "
                     "session: session_id or prompt_cache_key of the request; prefix: these, user, else the "
                     "system prompt with the first message; none.",
             .apply = live,
             .one_of = {"session", "prefix", "none"}},
            affinity);
    v.field({.name = "hedge_ms",
             .help = "A stream without content after this time is asked of the next route as well; the first "
                     "with content answers, the other is cut off, and only the one that answers is charged. "
                     "0: never. Its timer is exact to a tenth of a second.",
             .apply = live,
             .max = 3'600'000},
            hedge);
    v.field(
        {.name = "hedge_percent_max",
         .help = "Streams of each hundred that may be asked of a second route because of hedge_ms, so that a "
                 "slow day does not double what providers bill you. Up to ten in a row may come at once.",
         .apply = live,
         .min = 1,
         .max = 100},
        hedge_percent_max);
    v.field({.name = "aliases", .help = "Further names of it.", .apply = live}, aliases);
}

void AliasSettings::describe(settings::Visitor& v) {
    v.field(
        {.name = "name", .help = "Name that clients may send as \"model\".", .apply = live, .required = true},
        name);
    v.field({.name = "model", .help = "Id of the [[model]] that is meant.", .apply = live, .required = true},
            model);
}

}  // namespace nebula::catalog
