// What the tests of the page share: a page that must stay clean, and the words for its parts.
//
// Tests marked `canned` need the answers of web/dev-server.mjs (a question "/slow" is answered slowly) and
// are skipped against a real server (FATHOM_URL). All others run against both.
import { expect, type Page, test as base } from "@playwright/test";

const real = process.env["FATHOM_URL"] !== undefined;

/** How long an answer of a real model may take. */
export const answerMs = real ? 60_000 : 10_000;

interface Fixtures {
  /** Console errors that this test causes on purpose. */
  expectedErrors: RegExp[];
}

/** Every test also fails on errors in the console (the policy's refusals among them) and on any request
 * to another host. */
export const test = base.extend<Fixtures>({
  expectedErrors: [[], { option: true }],
  page: async ({ page, baseURL, expectedErrors }, use) => {
    const faults: string[] = [];
    page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
    page.on("console", (message) => {
      const text = message.text();
      if (message.type() === "error" && !expectedErrors.some((known) => known.test(text))) faults.push(text);
    });
    page.on("request", (request) => {
      const url = request.url();
      if (/^https?:/.test(url) && !url.startsWith(baseURL as string)) faults.push(`asked another host: ${url}`);
    });
    await page.goto("./");
    await expect(page.getByLabel("Model", { exact: true }).or(page.getByRole("dialog"))
      .or(page.getByLabel("模型", { exact: true })).or(page.getByRole("status").filter({ hasText: "reached" })).first()).toBeVisible();
    await use(page);
    expect(faults).toEqual([]);
  },
});

/** Leaves a test out where answers are a model's own. */
export function canned(): void {
  test.skip(real, "needs the canned answers of web/dev-server.mjs");
}

export { expect, type Page };

export const box = (page: Page) => page.getByLabel("Message", { exact: true });
export const answers = (page: Page) => page.getByRole("article", { name: / answers$/ });
export const questions = (page: Page) => page.getByRole("article", { name: "You said" });
export const lastAnswer = (page: Page) => answers(page).last();

export async function send(page: Page, text: string): Promise<void> {
  await box(page).fill(text);
  await box(page).press("Enter");
}

/** Waits until nothing is being answered. */
export async function answered(page: Page): Promise<void> {
  await expect(lastAnswer(page)).toHaveAttribute("aria-busy", "false", { timeout: answerMs });
}

export async function ask(page: Page, text: string): Promise<void> {
  await send(page, text);
  await answered(page);
}
