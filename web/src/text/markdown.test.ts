// @vitest-environment jsdom
import { describe, expect, it } from "vitest";
import "./languages";
import { MarkdownRenderer, sanitize, spoken } from "./markdown";

const labels = { copy: "Copy", image: "Picture" };

function show(source: string): HTMLElement {
  const host = document.createElement("div");
  host.innerHTML = new MarkdownRenderer(labels).render(source).map((block) => block.html).join("");
  return host;
}

describe("what an answer cannot do", () => {
  const attacks = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <b onmouseover=alert(1)>bold</b> text",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<style>*{display:none}</style>",
    "<a href='javascript:alert(1)'>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:x)",
    "<javascript:alert(1)>",
    "![x](javascript:alert(1))",
    '![x](https://a.example/"onerror="alert(1))',
    '[x](https://a.example/ "t\\" onclick=\\"alert(1)")',
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "`<img src=x onerror=alert(1)>`",
    "| <img src=x onerror=alert(1)> |\n|---|\n| <script>alert(1)</script> |",
    "<form action='https://a.example'><input name=key><button>go</button></form>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "# <img src=x onerror=alert(1)>",
    "- [ ] <input autofocus onfocus=alert(1)>",
    "<a id=x name=cookie>clobber</a>",
    "<b style='https://a.example;position:fixed'>over everything</b>",
    "<b style='https:position:fixed'>over everything</b>",
  ];
  // As an answer, and as HTML that a fault of the renderer let through.
  it.each([...attacks.map((source) => [source, show(source)] as const), ...attacks.map((source) => {
    const host = document.createElement("div");
    host.innerHTML = sanitize(source);
    return [`as HTML: ${source}`, host] as const;
  })])("%s", (_source, host) => {
    expect(host.querySelector("script,img,svg,iframe,style,form,math,details,object,embed,link,base")).toBeNull();
    for (const element of host.querySelectorAll("*")) {
      for (const { name, value } of element.attributes) {
        expect(name, `${element.outerHTML}`).not.toMatch(/^on|^style$|^id$|^name$|^src|^action$/);
        if (name === "href") expect(value).toMatch(/^(https?:|mailto:)/);
      }
    }
  });

  it("a link that leads elsewhere than to the web is none, even before the sanitiser", () => {
    for (const url of ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "/v1/models"]) {
      expect(show(`[words](${url})`).innerHTML, url).toBe("<p>words</p>\n");
    }
  });

  it("is shown as the text it is", () => {
    expect(show("a <script>alert(1)</script> b").textContent).toContain("a <script>alert(1)</script> b");
    expect(show("<img src=x onerror=alert(1)>").textContent).toContain("<img src=x onerror=alert(1)>");
  });
});

describe("what an answer can do", () => {
  it("links open elsewhere and tell nothing", () => {
    const anchor = show("[deep](https://a.example/b?c=1&d)").querySelector("a");
    expect(anchor?.getAttribute("href")).toBe("https://a.example/b?c=1&d");
    expect(anchor?.getAttribute("rel")).toBe("noopener noreferrer");
    expect(anchor?.getAttribute("target")).toBe("_blank");
  });

  it("pictures are links: the page asks nothing of other hosts", () => {
    const host = show("![a map](https://a.example/map.png)");
    expect(host.querySelector("a")?.textContent).toBe("Picture: a map");
  });

  it("code has its language, a copy button and its exact text", () => {
    const host = show("```python title=x\nif a < b and c:\n    print(\"&amp;\")\n```");
    expect(host.querySelector(".code-language")?.textContent).toBe("python");
    expect(host.querySelector("button.code-copy")?.textContent).toBe("Copy");
    expect(host.querySelector("pre code")?.textContent).toBe('if a < b and c:\n    print("&amp;")');
  });

  it("tables, lists, headings below the page's own", () => {
    const host = show("# Title\n\n1. a\n2. b\n\n| x | y |\n|--:|---|\n| 1 | 2 |\n\n- [x] done");
    expect(host.querySelector("h3")?.textContent).toBe("Title");
    expect(host.querySelectorAll("ol li")).toHaveLength(2);
    expect(host.querySelector("td")?.getAttribute("align")).toBe("right");
    expect(host.querySelector<HTMLInputElement>("input[type=checkbox]")?.disabled).toBe(true);
  });
});

describe("a growing answer", () => {
  const text = "# One\n\ntwo **three**\n\n```js\nlet a;\n```\n\n- x\n- y\n\nend";

  it("ends as it would have been rendered at once", () => {
    const renderer = new MarkdownRenderer(labels);
    for (let i = 0; i < text.length; i++) renderer.render(text.slice(0, i), true);
    expect(renderer.render(text).map((b) => b.html)).toEqual(new MarkdownRenderer(labels).render(text).map((b) => b.html));
  });

  it("keeps the blocks that are complete", () => {
    const renderer = new MarkdownRenderer(labels);
    const before = renderer.render("one\n\ntwo\n\nthr", true);
    const after = renderer.render("one\n\ntwo\n\nthree", true);
    expect(after[0]).toBe(before[0]);
    expect(after[1]).toBe(before[1]);
    expect(after[2]).not.toBe(before[2]);
  });

  it("shows code whose fence is still open as code", () => {
    const [block] = new MarkdownRenderer(labels).render("```cpp\nint a = 1;", true);
    expect(block?.html).toContain("<pre");
  });

  it("resolves references that come later", () => {
    const renderer = new MarkdownRenderer(labels);
    expect(renderer.render("[a][1]\n\nb", true)[0]?.html).not.toContain("<a");
    expect(renderer.render("[a][1]\n\nb\n\n[1]: https://a.example")[0]?.html).toContain("<a");
  });
});

describe("spoken", () => {
  it("leaves out markup", () => {
    expect(spoken("## A *b* [c](https://d.example)\n\n- `e`")).toBe("A b c\n\ne");
    expect(spoken("```js\nlet a;\n```")).toBe("let a;");
  });
});
