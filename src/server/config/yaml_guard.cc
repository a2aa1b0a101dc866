// One pass over the characters, with as much of YAML's lexer as the bounds need. See yaml_guard.h.
#include "server/config/yaml_guard.h"

#include <fmt/format.h>

#include <vector>

#include "base/limits.h"
#include "base/utf8.h"

namespace fathom::server {
namespace {

class Guard {
 public:
  Guard(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  Status check() {
    if (static_cast<int64_t>(text_.size()) > limits::kMaxYamlBytes)
      return invalid_argument(fmt::format("{}: {} bytes, at most {} are allowed", source_,
                                          text_.size(), limits::kMaxYamlBytes));
    if (!utf8_is_valid(text_)) return invalid_argument(fmt::format("{}: is not UTF-8", source_));
    while (at_ < text_.size()) FATHOM_TRY_STATUS(step());
    return {};
  }

 private:
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool ends_word(std::size_t ahead) const {
    const char c = peek(ahead);
    return c == '\0' || c == ' ' || c == '\n' || c == '\r' || c == '\t';
  }
  Error refuse(std::string_view what) const {
    return invalid_argument(fmt::format("{}:{}: {}", source_, line_, what));
  }

  Status step() {
    const char c = text_[at_];
    if (c == '\n') {
      ++line_;
      line_begin_ = ++at_;
      begin_line();
      return {};
    }
    // A CR by itself would be a line end to YAML.
    if (static_cast<unsigned char>(c) < ' ' && c != '\t' && !(c == '\r' && peek(1) == '\n'))
      return refuse("a control character");
    if (c == ' ' || c == '\t' || c == '\r') {
      ++at_;
      after_space_ = true;
      return {};
    }
    if (c == '#' && after_space_) {
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      return {};
    }
    if (token_start_) return begin_token(c);
    // Within a plain scalar.
    // In [] and {} a colon may also end a key without a space behind it ({"a":1}).
    if (c == ':' && (ends_word(1) || flow_depth_ > 0)) {
      token_start_ = true;
    } else if (flow_depth_ > 0 && is_flow(c)) {
      return flow(c);
    }
    ++at_;
    after_space_ = false;
    return bounded_scalar();
  }

  static bool is_flow(char c) { return c == ',' || c == '[' || c == ']' || c == '{' || c == '}'; }

  Status begin_token(char c) {
    FATHOM_TRY_STATUS(enter_column());
    if (++nodes_ > limits::kMaxYamlNodes)
      return refuse(fmt::format("more than {} values", limits::kMaxYamlNodes));
    after_space_ = false;
    scalar_bytes_ = 0;
    switch (c) {
      case '&':
      case '*':
        return refuse("anchors and aliases are not allowed, repeat the value");
      case '!':
        return refuse("tags are not allowed");
      case '|':
      case '>':
        return refuse("block texts are not allowed, write the value on one line");
      case '%':
      case '@':
      case '`':
        return refuse("a value cannot begin with this character, quote it");
      case '\'':
      case '"':
        return quoted(c);
      default:
        break;
    }
    if (c == '?' && ends_word(1)) return refuse("keys marked by '?' are not allowed");
    if (column() == 0 && text_.substr(at_, 3) == "---" && ends_word(3)) {
      if (nodes_ > 1) return refuse("a second document, expected one");
      at_ += 3;
      nodes_ = 0;
      return {};
    }
    if (c == '-' && ends_word(1)) {  // an item of a list: what follows is a token of its own
      ++at_;
      return {};
    }
    if (is_flow(c)) return flow(c);
    if (c == ':' && (ends_word(1) || flow_depth_ > 0)) {
      ++at_;
      return {};
    }
    token_start_ = false;
    ++at_;
    return {};
  }

  Status flow(char c) {
    ++at_;
    token_start_ = true;
    after_space_ = false;
    scalar_bytes_ = 0;
    if (c == '[' || c == '{') {
      if (++flow_depth_ + static_cast<int>(columns_.size()) > limits::kMaxYamlDepth)
        return too_deep();
    } else if (c != ',' && flow_depth_ > 0) {
      --flow_depth_;
    }
    return {};
  }

  Status quoted(char quote) {
    const std::size_t begin = at_++;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n') return refuse("a quoted value that does not end on its line");
      if (quote == '"' && c == '\\') {
        at_ += 2;
        continue;
      }
      if (c == quote && quote == '\'' && peek(1) == '\'') {
        at_ += 2;
        continue;
      }
      ++at_;
      if (c == quote) {
        token_start_ = false;
        scalar_bytes_ = static_cast<int64_t>(at_ - begin);
        return bounded_scalar();
      }
    }
    return refuse("a quoted value without end");
  }

  Status bounded_scalar() {
    if (++scalar_bytes_ > limits::kMaxYamlScalarBytes)
      return refuse(fmt::format("a value of more than {} bytes", limits::kMaxYamlScalarBytes));
    return {};
  }

  // Depth by indentation: the columns at which the open blocks begin.
  Status enter_column() {
    if (flow_depth_ > 0) return {};
    const std::size_t c = column();
    while (!columns_.empty() && columns_.back() > c) columns_.pop_back();
    if (columns_.empty() || columns_.back() < c) columns_.push_back(c);
    if (static_cast<int>(columns_.size()) > limits::kMaxYamlDepth) return too_deep();
    return {};
  }

  std::size_t column() const { return at_ - line_begin_; }
  Error too_deep() const {
    return refuse(fmt::format("nested more than {} levels deep", limits::kMaxYamlDepth));
  }
  void begin_line() {
    token_start_ = true;
    after_space_ = true;
    scalar_bytes_ = 0;
  }

  std::string_view text_;
  std::string_view source_;
  std::size_t at_ = 0;
  std::size_t line_begin_ = 0;
  int64_t line_ = 1;
  int64_t nodes_ = 0;
  int64_t scalar_bytes_ = 0;
  int flow_depth_ = 0;
  std::vector<std::size_t> columns_;
  bool token_start_ = true;  // the next character begins a token
  bool after_space_ = true;
};

}  // namespace

Status check_yaml(std::string_view text, std::string_view source) {
  return Guard(text, source).check();
}

}  // namespace fathom::server
