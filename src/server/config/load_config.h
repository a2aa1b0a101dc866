// ServerConfig from its sources: defaults, then fathom.yaml, then the environment, then flags.
//
// Owns the merge and the messages; the table of settings is settings.h. Reads files that it is told
// to; never the process's environment.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "server/config/server_config.h"

namespace fathom::server {

struct ConfigSources {
  std::string file;  // empty: none
  // All variables of the process; those of the table are used. One that begins with FATHOM_ and
  // nearly is one of them is an error.
  std::map<std::string, std::string> environment;
  // As given: {"--port", "8080"}. A flag of a boolean has "true" or "false"; of a list, commas.
  std::vector<std::pair<std::string, std::string>> flags;
  std::string model;  // MODEL of the command line; takes the place of the file's models
};

// Errors list everything that is wrong, a line each: "fathom.yaml:12: limits.max_conections:
// unknown setting; did you mean limits.max_connections?", "--port: \"x\", expected an integer from
// 0 to 65535".
Result<ServerConfig> load_config(const ConfigSources& sources);

// The text of a fathom.yaml over the defaults; `source` begins its messages.
Result<ServerConfig> parse_config(std::string_view text, std::string_view source);

}  // namespace fathom::server
