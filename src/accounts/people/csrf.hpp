#pragma once
// Whether a request that a browser's cookie speaks for was made by this site's own pages. Private to this
// module.

#include "http/http.hpp"

namespace nebula::accounts {

/// GET, HEAD and OPTIONS change nothing.
bool changes_something(http::Method method);

/// Of a request that changes something: Sec-Fetch-Site says same-origin or none; without it an Origin with
/// this request's host; without both (no browser) a content type that no HTML form can send.
bool is_from_this_site(const http::RequestHead& head);

}  // namespace nebula::accounts
