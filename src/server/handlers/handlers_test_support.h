// The handlers behind a real listener on loopback, over a ModelService that plays scripts.
#pragma once

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "server/handlers/routes.h"
#include "server/http/http_test_support.h"
#include "server/service.h"

namespace fathom::server::test {

// What a generation does, step by step.
struct Step {
  enum class Kind : uint8_t { kText, kWait, kHang, kFinish, kFail };
  Kind kind = Kind::kFinish;
  std::string text;
  std::chrono::milliseconds wait{0};
  FinishReason finish = FinishReason::kStop;
  Error error;
};
// The tokens of `text`: each in an event of its own, unless `together`.
std::vector<Step> say(std::string_view text);
Step together(std::string text);
Step wait_ms(int ms);
Step hang();
Step finish(FinishReason reason = FinishReason::kStop);
Step fail(Error error);

using Script = std::vector<Step>;
Script script(std::vector<std::vector<Step>> parts);
inline std::vector<Step> one(Step step) { return {std::move(step)}; }

struct SseLine {
  std::string event, id, data;
  nlohmann::json json() const { return nlohmann::json::parse(data); }
};
// The events of a stream; comments are left out.
std::vector<SseLine> events_of(const std::string& body);

class ApiServer {
 public:
  struct Options {
    std::chrono::milliseconds keep_alive{5000};
    std::chrono::milliseconds body_keep_alive{60'000};
    std::string api_keys;  // lines of a key file; empty: open
    bool metrics_open = false;
    std::string tokenizer = "nano";
    ChatFamily family = ChatFamily::kChatMl;  // thinks not: all text is content
  };
  ApiServer() : ApiServer(Options()) {}
  explicit ApiServer(Options options);
  ~ApiServer();

  // Played by the generations to come, in the order of their submission; when they run out: "ok"
  // and the end.
  void play(Script script);
  void refuse_next(Error error);  // submit() fails once
  void set_status(nlohmann::json status);
  std::vector<GenerationSpec> submitted();
  std::vector<std::string> erased();  // tenants
  int cancelled();  // generations destroyed before their end
  int alive();

  TestClient connect() const { return TestClient(port_); }
  // Headers are lines that end in CRLF.
  TestResponse get(std::string_view path, std::string_view headers = "") const;
  TestResponse del(std::string_view path) const;
  TestResponse post(std::string_view path, std::string_view body,
                    std::string_view headers = "") const;
  static std::string post_bytes(std::string_view path, std::string_view body,
                                std::string_view headers = "");
  const Router& router() const;
  Metrics& metrics();
  bool eventually(const std::function<bool()>& condition);
  void stop_background();

 private:
  struct State;
  std::unique_ptr<State> state_;
  uint16_t port_ = 0;
};

}  // namespace fathom::server::test
