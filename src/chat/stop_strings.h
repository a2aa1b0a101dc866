// Stop strings in a stream of text: lets through what cannot be the start of one, and cuts at the
// first.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fathom {

class StopStrings {
 public:
  // Empty strings are ignored.
  explicit StopStrings(std::vector<std::string> stops);

  // The part of all text so far that is certain not to belong to a stop string and was not returned
  // yet. Once a stop string is complete, stopped() is true and nothing more comes.
  std::string feed(std::string_view text);
  // What was held back; call at the end.
  std::string finish();
  bool stopped() const { return stopped_; }
  // The string that came; "" before.
  const std::string& stopped_by() const { return stopped_by_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::string stopped_by_;
  bool stopped_ = false;
};

}  // namespace fathom
