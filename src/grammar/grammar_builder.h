// GrammarBuilder: puts a Grammar together state by state.
//
// Owns the clean-up at the end: jumps that lead nowhere else are cut short, what cannot reach the
// end is removed (so a branch that nothing satisfies costs nothing), and what is left is numbered
// anew. Internal to this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "grammar/grammar.h"

namespace fathom::grammar {

class GrammarBuilder {
 public:
  GrammarBuilder();

  // The one state that ends every rule. Nothing may go on from it.
  StateId end() const { return 0; }
  // Past the limits, ids repeat and nothing is added any more: check full() before long loops.
  StateId state();
  bool full() const { return full_; }

  void edge(StateId from, uint8_t first, uint8_t last, StateId to);
  void edge(StateId from, char byte, StateId to) {
    edge(from, static_cast<uint8_t>(byte), static_cast<uint8_t>(byte), to);
  }
  void jump(StateId from, StateId to);
  // Runs the rule that starts at `rule`, then goes on at `back`.
  void call(StateId from, StateId rule, StateId back);
  void set_final(StateId state);
  void set_text(StateId state);
  void set_covered(StateId state);
  // The state stands before a character of a free string. What follows it must be as JsonText
  // writes free strings: masks are not found by looking there.
  void set_string_place(StateId state, StringPlace place);
  // Reads `bytes`; the state behind them.
  StateId text(StateId from, std::string_view bytes);
  // As text, but where an added token of the vocabulary is spelled, that token is asked for.
  StateId literal(StateId from, std::string_view bytes);

  // build() fails in the name of `source` if no text leads on from `state`.
  void must_end(StateId state, std::string source);

  // Errors: resource limit if it grew beyond base/limits.h; invalid argument if no text matches.
  // `source` begins the message.
  Result<std::shared_ptr<const Grammar>> build(StateId start, std::string_view source) &&;

 private:
  friend class fathom::GrammarAssembler;
  struct FromEdge {
    StateId from;
    Edge edge;
  };
  struct FromJump {
    StateId from;
    StateId to;
  };
  struct FromCall {
    StateId from;
    Call call;
  };
  bool grow();

  uint32_t states_ = 0;
  bool full_ = false;
  std::vector<FromEdge> edges_;
  std::vector<FromJump> jumps_;
  std::vector<FromCall> calls_;
  std::vector<uint8_t> flags_;
  std::vector<LiteralPlace> places_;
  std::vector<std::pair<StateId, StringPlace>> string_places_;
  std::vector<std::string> literals_;
  std::vector<std::pair<StateId, std::string>> must_end_;
};

}  // namespace fathom::grammar
