// The page for those who use a keyboard, a screen reader, a phone, or little motion.
import axe from "axe-core";
import { answered, answers, ask, box, canned, expect, lastAnswer, type Page, questions, send, test } from "./page";

test("everything can be done with the keyboard alone", async ({ page }) => {
  const tab = async (name: RegExp | string, back = false) => {
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press(back ? "Shift+Tab" : "Tab");
      const label = await page.evaluate(() => {
        const focused = document.activeElement;
        return focused?.getAttribute("aria-label") ?? focused?.textContent?.trim() ?? "";
      });
      if (typeof name === "string" ? label === name : name.test(label)) return;
    }
    throw new Error(`Tab does not reach ${name}`);
  };
  await page.keyboard.press("Tab");
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await page.reload();
  await expect(box(page)).toBeFocused();
  await page.keyboard.type("By hand");
  await page.keyboard.press("Enter");
  await answered(page);
  await tab("Regenerate", true);
  await page.keyboard.press("Enter");
  await answered(page);
  await page.getByRole("group", { name: "Version 2 of 2" }).waitFor();
  await page.keyboard.press("/");
  await expect(box(page)).toBeFocused();
  await tab("Previous version", true);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("group", { name: "Version 1 of 2" })).toBeVisible();
  await tab("Edit", true);
  await page.keyboard.press("Enter");
  await expect(page.getByLabel("Edit your message")).toBeFocused();
  await page.keyboard.type(" again");
  await page.keyboard.press("Enter");
  await answered(page);
  await expect(questions(page)).toContainText("By hand again");
  await page.keyboard.press("Control+Shift+O");
  await expect(box(page)).toBeFocused();
  await expect(questions(page)).toHaveCount(0);
  await page.keyboard.press("Control+K");
  await expect(page.getByRole("searchbox")).toBeFocused();
  await tab("By hand");
  await page.keyboard.press("Enter");
  await expect(questions(page)).toContainText("By hand again");
  await tab("Settings");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("dialog", { name: "Settings" })).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("button", { name: "Settings" })).toBeFocused();
  await tab("Parameters");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Parameters" })).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("button", { name: "Parameters" })).toBeFocused();
});

test("the first stop of Tab skips to the message box", async ({ page }) => {
  await page.evaluate(() => {
    (document.activeElement as HTMLElement).blur();
    getSelection()?.removeAllRanges();
  });
  const skip = page.getByRole("link", { name: "Skip to the message box" });
  await skip.focus();
  await expect(skip).toBeInViewport();
  await page.keyboard.press("Enter");
  await expect(box(page)).toBeFocused();
});

test("an answer is read out paragraph by paragraph, not word by word", async ({ page }) => {
  canned();
  await page.evaluate(() => {
    const said: string[] = ((window as unknown as Record<string, unknown>)["said"] = []) as string[];
    const region = document.querySelector("[role=log][aria-live=polite]") as Element;
    new MutationObserver((changes) => {
      for (const change of changes) for (const node of change.addedNodes) said.push(node.textContent ?? "");
    }).observe(region, { childList: true });
  });
  await ask(page, "How deep?");
  const said = await page.evaluate(() => (window as unknown as { said: string[] }).said);
  expect(said[0]).toBe("The ocean is 3.7 km deep on average. A fathom is six feet, so that is about 2,020 fathoms.");
  expect(said).toHaveLength(3);
});

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const inPage = (window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> } }).axe;
    const found = (await inPage.run()).violations;
    return found.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html}\n${failureSummary}`));
  });
}

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(`axe, ${colorScheme}`, () => {
    test.use({ colorScheme, contextOptions: { reducedMotion: "reduce" } });

    test("finds nothing in a conversation, the parameters and the settings", async ({ page }) => {
      canned();
      expect(await violations(page)).toEqual([]);
      await ask(page, "/code");
      await ask(page, "/think");
      await ask(page, "/tools");
      await ask(page, "/length");
      await page.getByRole("button", { name: "Parameters" }).click();
      expect(await violations(page)).toEqual([]);
      await page.getByRole("button", { name: "Settings" }).click();
      expect(await violations(page)).toEqual([]);
    });

    test("finds nothing in the server's view", async ({ page }) => {
      await page.getByRole("link", { name: /^Server/ }).click();
      await expect(page.locator(".plot canvas")).toHaveCount(4);
      expect(await violations(page)).toEqual([]);
    });
  });
}

test.describe("on a phone", () => {
  test.use({ viewport: { width: 360, height: 700 }, hasTouch: true, isMobile: true });

  test("everything is in reach and nothing overflows", async ({ page }) => {
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    await ask(page, "How deep is the ocean?");
    expect(await overflow()).toBe(0);
    await expect(page.getByRole("navigation")).toBeHidden();
    await page.getByRole("button", { name: "Open the list of conversations" }).tap();
    await expect(page.getByRole("navigation")).toBeVisible();
    await page.getByRole("link", { name: /^Server/ }).tap();
    await expect(page.getByRole("navigation")).toBeHidden();
    await expect(page.locator(".plot canvas")).toHaveCount(4);
    expect(await overflow()).toBe(0);
    await page.getByRole("button", { name: "Open the list of conversations" }).tap();
    await page.getByRole("button", { name: "New chat", exact: true }).tap();
    await expect(answers(page)).toHaveCount(0);
    await expect(page.getByRole("navigation")).toBeHidden();
  });

  test("wide code and tables scroll by themselves", async ({ page }) => {
    canned();
    await ask(page, "/code");
    await send(page, "Table please");
    await answered(page);
    await expect(lastAnswer(page).getByRole("table")).toBeVisible();
    expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);
  });
});
