#pragma once
#include <string>

#include "app/services.hpp"

namespace nebula::app {

/// Sends one chat completion through the API port with the first key and prints answer, tokens, price,
/// balance and a curl command. Says what is missing when it cannot.
void greet(Services& services, const AppSettings& settings, const std::string& api_address);

}  // namespace nebula::app
