// Markdown of a model's answer to HTML that is safe to show.
//
// Two walls: the renderer never passes HTML through (tags in an answer are shown as text, pictures as
// links, since the page asks nothing of other hosts), and DOMPurify then keeps only the elements listed
// here. The result is a list of blocks, so that of an answer that grows only the last block is
// rendered again.

import DOMPurify from "dompurify";
import { Marked, type Token, type Tokens } from "marked";
import { highlight } from "./highlight";

export interface Block {
  /** What dangerouslySetInnerHTML takes; a TrustedHTML where the browser has that. */
  html: string;
  /** The block's words, for screen readers. */
  source: string;
}

export interface Labels {
  copy: string;
  image: string;
}

/** While code is still growing, it is coloured up to this length only. */
const maxGrowingChars = 12_000;

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function safeUrl(url: string): string | null {
  const compact = url.replace(/[\u0000-\u0020\u007f-\u00a0]/g, "");
  return /^(https?:|mailto:)/i.test(compact) ? url : null;
}

function link(href: string, title: string | null | undefined, inner: string): string {
  const url = safeUrl(href);
  if (url === null) return inner;
  const hint = title ? ` title="${escapeHtml(title)}"` : "";
  return `<a href="${escapeHtml(url)}"${hint} target="_blank" rel="noopener noreferrer">${inner}</a>`;
}

function codeBlock(code: string, info: string, labels: Labels, growing: boolean): string {
  const language = info.trim().split(/[\s{,]/, 1)[0]?.toLowerCase() ?? "";
  const colours = growing && code.length > maxGrowingChars ? null : highlight(code, language);
  return (
    `<div class="code"><div class="code-bar"><span class="code-language">${escapeHtml(language || "text")}</span>` +
    `<button type="button" class="code-copy">${escapeHtml(labels.copy)}</button></div>` +
    `<pre tabindex="0"><code>${colours ?? escapeHtml(code)}</code></pre></div>`
  );
}

const allowed = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "button", "code", "del", "div", "em", "h3", "h4", "h5", "h6", "hr", "input", "li",
    "ol", "p", "pre", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: [
    "align", "checked", "class", "disabled", "href", "rel", "start", "tabindex", "target", "title", "type",
  ],
  // DOMPurify checks the values of all other attributes against ALLOWED_URI_REGEXP.
  ADD_URI_SAFE_ATTR: ["align", "rel", "start", "tabindex", "target", "type"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
};

// A page that enforces Trusted Types takes nothing else into innerHTML. TypeScript's and Preact's
// types know strings only.
const trusted = typeof window !== "undefined" && "trustedTypes" in window;
/** The second wall, by itself. */
export function sanitize(html: string): string {
  return DOMPurify.sanitize(html, { ...allowed, RETURN_TRUSTED_TYPE: trusted }) as unknown as string;
}

/** Renders one text that may grow; keep one per message. */
export class MarkdownRenderer {
  private cache = new Map<string, Block>();
  private growing = false;
  private readonly marked: Marked;

  constructor(private readonly labels: Labels) {
    this.marked = new Marked({ gfm: true, breaks: false, async: false });
    this.marked.use({ renderer: this.renderer() });
  }

  render(source: string, growing = false): Block[] {
    const tokens = this.marked.lexer(source).filter((token) => token.type !== "space" && token.type !== "def");
    const next = new Map<string, Block>();
    const blocks = tokens.map((token, index) => {
      const last = index === tokens.length - 1;
      this.growing = growing && last;
      // A complete text is rendered anew: a reference defined at its end may have made links above.
      const reuse = growing && !last ? this.cache.get(token.raw) : undefined;
      const block = reuse ?? { html: sanitize(this.html(token)), source: token.raw };
      if (!this.growing) next.set(token.raw, block);
      return block;
    });
    this.cache = next;
    return blocks;
  }

  private html(token: Token): string {
    return this.marked.parser([token]);
  }

  private renderer() {
    const self = this;
    return {
      html: ({ text }: Tokens.HTML | Tokens.Tag): string => escapeHtml(text),
      code: ({ text, lang }: Tokens.Code): string => codeBlock(text, lang ?? "", self.labels, self.growing),
      image: ({ href, title, text }: Tokens.Image): string =>
        link(href, title, escapeHtml(`${self.labels.image}: ${text || href}`)),
      link(this: { parser: { parseInline(tokens: Token[]): string } }, { href, title, tokens }: Tokens.Link): string {
        return link(href, title, this.parser.parseInline(tokens));
      },
      // The page's own headings are h1 and h2.
      heading(this: { parser: { parseInline(tokens: Token[]): string } }, { tokens, depth }: Tokens.Heading): string {
        const level = Math.min(6, depth + 2);
        return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
      },
    };
  }
}

/** The text of a block without most of its markup, to be read out. */
export function spoken(source: string): string {
  return source
    .replace(/^(`{3,}|~{3,}).*$/gm, "")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^[ \t]*(#{1,6}|>|[-*+]|\d+\.)[ \t]+/gm, "")
    .replace(/[*_`|]{1,3}/g, "")
    .trim();
}
