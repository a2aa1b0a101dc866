// The canned answers of dev-server.mjs: lists of steps (text, pauses, faults) chosen by the question.

const short = `The ocean is **3.7 km** deep on average. A *fathom* is six feet, so that is about 2,020 fathoms.

| place | depth | fathoms |
|---|---:|---:|
| North Sea | 95 m | 52 |
| Mediterranean | 1,500 m | 820 |
| Challenger Deep | 10,935 m | 5,979 |

Sounding lines were marked so that a sailor could read them in the dark, by touch alone.`;

const code = `Fathoms to metres and back, with the exact factor:

\`\`\`cpp
#include <cstdint>

// 1 fathom = 6 ft = 1.8288 m, exactly since 1959.
constexpr double kMetresPerFathom = 1.8288;

double to_metres(double fathoms) { return fathoms * kMetresPerFathom; }

int main() {
  const auto depth = to_metres(2'020);
  return depth > 3'694 ? 0 : 1;
}
\`\`\`

The same in Python:

\`\`\`python
def to_metres(fathoms: float) -> float:
    """One fathom is exactly 1.8288 m."""
    return fathoms * 1.8288

print(f"{to_metres(2020):,.0f} m")  # 3,694 m
\`\`\`

1. Multiply by \`1.8288\`.
2. Round **last**, never in between.
   - Charts give whole metres.
   - Old charts give fathoms and feet.

> Mark twain: two fathoms, safe water.`;

const reasoning = `The user asks about depth. I should recall what a fathom is: six feet, the span of outstretched arms.

The mean depth of the ocean is about 3,688 m. Divided by 1.8288 that is 2,017 fathoms, so "about 2,020" is right.

A table would make the comparison clear.`;

const attack = `Here it is: <script>window.attacked = 1</script> and <img src=x onerror="window.attacked=2">

<svg onload="window.attacked=3"></svg>

[click](javascript:window.attacked=4) ![pic](https://outside.example/x.png)

\`\`\`html
<script>window.attacked = 5</script>
\`\`\`

end of attack`;

const chinese = `海洋的平均深度约为 **3700 米**。一*英寻*等于六英尺，所以大约是 2020 英寻。

| 地点 | 深度 | 英寻 |
|---|---:|---:|
| 北海 | 95 米 | 52 |
| 地中海 | 1500 米 | 820 |
| 挑战者深渊 | 10935 米 | 5979 |

测深绳上的标记可以靠触摸分辨，因此水手在黑暗中也能读数。`;

const long = Array.from({ length: 120 }, (_, i) => `Line ${i + 1}: the lead goes down and the line runs out.`).join("\n\n");

const canned = {
  xss: () => ({ steps: [{ text: attack }] }),
  long: () => ({ steps: [{ text: long, rate: 400 }] }),
  slow: () => ({ steps: [{ text: long, rate: 15 }] }),
  stall: () => ({ steps: [{ text: "The line runs out" }, { restart: 3000 }, { wait: 3000 }, { text: " and goes on as if nothing had been." }] }),
  cut: () => ({ steps: [{ text: "The line runs out and" }, { cut: true }] }),
  think: () => ({ steps: [{ text: reasoning, reasoning: true }, { text: short }] }),
  code: () => ({ steps: [{ text: code, rate: 200 }] }),
  tools: () => ({
    finish: "tool_calls",
    steps: [
      { text: "I look that up." },
      { delta: { tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "depth_at", arguments: "" } }] } },
      ...['{"place": ', '"Challenger', ' Deep"}'].map((text) => ({ delta: { tool_calls: [{ index: 0, function: { arguments: text } }] } })),
    ],
  }),
  error: () => ({ steps: [{ text: "The line" }, { error: "the engine gave up after 3 restarts" }] }),
  busy: () => ({ refuse: { status: 429, message: "the queue is full: 64 of 64", headers: { "retry-after": "2" } } }),
  queue: () => ({ steps: [{ wait: 2500 }, { text: short }] }),
  length: () => ({ finish: "length", steps: [{ text: "The answer ends before" }] }),
};

/** prefix: the beginning of an answer that is to be continued, else null. */
export function answerTo(question, prefix, body) {
  if (prefix !== null) return { steps: [{ text: " …and on it goes from there." }] };
  const name = /^\/(\w+)/.exec(question)?.[1];
  if (name && Object.hasOwn(canned, name)) return canned[name]();
  const thinking = body.thinking?.type === "enabled" ? [{ text: reasoning, reasoning: true }] : [];
  return { steps: [...thinking, { text: /[\u4e00-\u9fff]/.test(question) ? chinese : short }] };
}
