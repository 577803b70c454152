#pragma once
// Looks once, after the start, for servers of models on this machine that the configuration does not know,
// and says in one log line how to serve their models. Changes nothing.

#include <string>
#include <vector>

#include "app/services.hpp"
#include "async/task_group.hpp"

namespace nebula::app {

class LocalServers {
   public:
    explicit LocalServers(Services& services) : services_(services) {}
    /// Returns at once.
    void start(const catalog::CatalogSettings& settings, const std::string& config_file);
    /// Waits for what is left of a look, half a second at most.
    void stop();

   private:
    Async<void> look(std::string url, std::string config_file);

    Services& services_;
    TaskGroup tasks_{"local servers"};
};

}  // namespace nebula::app
