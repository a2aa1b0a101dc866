// The groups of rows. Internal to this folder.
#pragma once

namespace fathom::server {

class Router;
struct HandlerDeps;

void add_chat_routes(Router& router, HandlerDeps& deps);
void add_completion_routes(Router& router, HandlerDeps& deps);
void add_response_routes(Router& router, HandlerDeps& deps);
void add_anthropic_routes(Router& router, HandlerDeps& deps);
void add_misc_routes(Router& router, HandlerDeps& deps);
void add_ops_routes(Router& router, HandlerDeps& deps);
// The web page: public, one row per file.
void add_page_routes(Router& router);

}  // namespace fathom::server
