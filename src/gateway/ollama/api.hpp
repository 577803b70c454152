#pragma once
// The paths of Ollama's API. Models are the catalog's: they are listed and used, and nothing can be pulled,
// created or removed.

#include "gateway/chat.hpp"
#include "gateway/ollama/ollama.hpp"

namespace nebula::gateway::ollama {

class Api {
   public:
    /// Both outlive it.
    Api(Chat& chat, const Services& services) : chat_(chat), services_(services) {}
    void register_routes(http::Router& router);

   private:
    using List = std::string (*)(const catalog::Snapshot& snapshot);

    Async<void> ask(http::Exchange& exchange, Kind kind);
    /// Answers a request that only asks to load a model; false when it is none.
    Async<bool> answer_load(http::Exchange& exchange, Kind kind);
    Async<void> list(http::Exchange& exchange, List list);
    Async<void> show(http::Exchange& exchange);
    Async<void> refuse(http::Exchange& exchange);

    Chat& chat_;
    const Services& services_;
};

/// Whether GET / is answered as Ollama's servers do ("Ollama is running"): for every client but browsers,
/// which ask for HTML there.
bool expects_banner(const http::RequestHead& head);

}  // namespace nebula::gateway::ollama
