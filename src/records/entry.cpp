#include "records/entry.hpp"

#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace nebula::records {
namespace {

namespace json = boost::json;

struct Member {
    std::string_view kept;
    std::string_view told;
    const char* usual = nullptr;  // JSON of what an absent one is; null: it is absent
    bool is_of_charged = false;   // the usual value holds for requests that were charged (they have `o`)
};

constexpr std::array members = {
    Member{"i", "id"},
    Member{"k", "key"},
    Member{"t", "at"},  // when it began, in microseconds
    Member{"a", "api", R"("openai")"},
    Member{"p", "endpoint", R"("chat")"},
    Member{"m", "model"},
    Member{"r", "provider"},
    Member{"u", "upstream_id"},
    Member{"s", "status", "200"},
    Member{"e", "error"},
    Member{"w", "outcome", R"("completed")", true},
    Member{"d", "streamed", "false"},
    Member{"f", "finish"},
    Member{"n", "input", "0", true},
    Member{"c", "cached", "0", true},
    Member{"o", "output", "0", true},
    Member{"h", "reasoning", "0", true},
    Member{"z", "tokenizer", R"("provider")", true},
    Member{"q", "charge", "0", true},    // in nano-dollars
    Member{"j", "byok", "false", true},  // the customer's own key for the provider
    Member{"uc", "upstream_cost"},  // then: what the provider's own bill is, by our list, in nano-dollars
    Member{"l", "latency_us"},
    Member{"b", "first_token_us"},
    Member{"g", "user_agent"},
    Member{"x", "referer"},
    Member{"y", "title"},
    Member{"v", "attempts"},
};

}  // namespace

std::string expanded(std::string_view line) {
    json::value value = json::parse(line);
    const json::object& kept = value.as_object();
    const bool is_charged = kept.contains("o");
    json::object told;
    for (const Member& member : members) {
        const json::value* found = kept.if_contains(member.kept);
        if (found != nullptr)
            told[member.told] = *found;
        else if (member.usual != nullptr && (is_charged || !member.is_of_charged))
            told[member.told] = json::parse(member.usual);
    }
    // One attempt that succeeded is not worth its bytes.
    if (!told.contains("attempts") && told.contains("provider")) {
        json::object attempt{{"provider", told.at("provider")}, {"status", 200}};
        if (told.contains("latency_us")) attempt["latency_us"] = told.at("latency_us");
        if (kept.contains("j")) attempt["byok"] = true;
        told["attempts"] = json::array{std::move(attempt)};
    }
    return json::serialize(told);
}

}  // namespace nebula::records
