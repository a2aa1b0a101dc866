// What surrounds the conversation: languages, appearance, the list, the key, the server's view.
import { readFile } from "node:fs/promises";
import { answered, ask, box, canned, expect, lastAnswer, questions, test } from "./page";

test.describe("language", () => {
  test("is switched and remembered", async ({ page }) => {
    await page.getByRole("button", { name: "中文" }).click();
    await expect(page.getByRole("button", { name: "新对话" })).toBeVisible();
    await expect(page.locator("html")).toHaveAttribute("lang", "zh-CN");
    await page.reload();
    await expect(page.getByPlaceholder("有什么想问的？")).toBeVisible();
    await page.getByRole("button", { name: "English" }).click();
    await expect(page.getByRole("button", { name: "New chat" })).toBeVisible();
  });

  test.describe("of a Chinese browser", () => {
    test.use({ locale: "zh-CN" });
    test("is Chinese", async ({ page }) => {
      await expect(page.getByRole("link", { name: "服务器" })).toBeVisible();
      await expect(page.locator("html")).toHaveAttribute("lang", "zh-CN");
    });
  });
});

const background = "getComputedStyle(document.body).backgroundColor";

test.describe("appearance", () => {
  test("follows the system and can be chosen", async ({ page }) => {
    const light = await page.evaluate(background);
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await page.evaluate(background);
    expect(dark).not.toBe(light);
    await page.getByRole("button", { name: "Settings" }).click();
    const theme = page.getByRole("group", { name: "Appearance" });
    await theme.locator("label", { hasText: "Light" }).click();
    expect(await page.evaluate(background)).toBe(light);
    await page.emulateMedia({ colorScheme: "light" });
    await theme.locator("label", { hasText: "Dark" }).click();
    expect(await page.evaluate(background)).toBe(dark);
    await page.reload();
    expect(await page.evaluate(background)).toBe(dark);
  });
});

test.describe("conversations", () => {
  test("are renamed, searched by their words, deleted and brought back", async ({ page }) => {
    await ask(page, "First about whales");
    await page.getByRole("button", { name: "New chat", exact: true }).click();
    await ask(page, "Second about boats");
    const list = page.getByRole("region", { name: "Conversations" });
    await list.getByRole("link", { name: "Second about boats" }).hover();
    await list.getByRole("button", { name: "Rename “Second about boats”" }).click();
    await page.getByLabel("Title").fill("Harbour");
    await page.getByLabel("Title").press("Enter");
    await expect(list.getByRole("link", { name: "Harbour" })).toBeVisible();

    await page.getByRole("searchbox").fill("BOATS");
    await expect(list.getByRole("link")).toHaveText(["Harbour"]);
    await page.getByRole("searchbox").fill("no such thing");
    await expect(list).toContainText("Nothing found");
    await page.getByRole("searchbox").fill("");

    await list.getByRole("link", { name: "Harbour" }).hover();
    await list.getByRole("button", { name: "Delete “Harbour”" }).click();
    await expect(list.getByRole("link")).toHaveText(["First about whales"]);
    await expect(questions(page)).toHaveCount(0);
    await page.getByRole("button", { name: "Undo" }).click();
    await expect(list.getByRole("link", { name: "Harbour" })).toBeVisible();
    await expect(questions(page)).toHaveText("Second about boats");
    await page.reload();
    await expect(list.getByRole("link")).toHaveText(["Harbour", "First about whales"]);
  });

  test("are exported, deleted and imported again", async ({ page }) => {
    await ask(page, "Keep this");
    await page.getByRole("button", { name: "Parameters" }).click();
    const markdown = page.waitForEvent("download");
    await page.getByRole("button", { name: "Markdown" }).click();
    const file = await markdown;
    expect(file.suggestedFilename()).toBe("Keep-this.md");
    expect(await readFile(await file.path(), "utf8")).toContain("# Keep this\n\n## You\n\nKeep this\n");

    await page.getByRole("button", { name: "Settings" }).click();
    const all = page.waitForEvent("download");
    await page.getByRole("button", { name: "Export all" }).click();
    const path = await (await all).path();
    page.on("dialog", (dialog) => void dialog.accept());
    await page.getByRole("button", { name: "Delete all…" }).click();
    const list = page.getByRole("region", { name: "Conversations", includeHidden: true });
    await expect(list.locator("a")).toHaveCount(0);
    await page.locator("input[type=file]").setInputFiles(path);
    await expect(page.getByText("1 conversation imported")).toBeVisible();
    await page.keyboard.press("Escape");
    await list.getByRole("link", { name: "Keep this" }).click();
    await expect(questions(page)).toHaveText("Keep this");
    await expect(lastAnswer(page).locator(".markdown")).not.toBeEmpty();
  });

  test("a file that is none is refused with the reason", async ({ page }) => {
    await page.getByRole("button", { name: "Settings" }).click();
    await page.locator("input[type=file]").setInputFiles({
      name: "x.json", mimeType: "application/json", buffer: Buffer.from('{"format":"other"}'),
    });
    await expect(page.getByText('Not imported: format: expected "fathom-conversations", found "other"')).toBeVisible();
  });

  test("what happens in one tab is seen in the other", async ({ page, context }) => {
    await ask(page, "From the first tab");
    const other = await context.newPage();
    await other.goto("./");
    await expect(other.getByRole("link", { name: "From the first tab" })).toBeVisible();
    await page.getByRole("button", { name: "New chat", exact: true }).click();
    await ask(page, "And another");
    await expect(other.getByRole("link", { name: "And another" })).toBeVisible();
  });

  test("an answer that another tab receives is not called interrupted", async ({ page, context }) => {
    canned();
    await box(page).fill("/slow");
    await box(page).press("Enter");
    await expect(lastAnswer(page)).toContainText("Line 1");
    const other = await context.newPage();
    await other.goto(page.url());
    await expect(lastAnswer(other)).toContainText("Line 1");
    await expect(lastAnswer(other)).not.toContainText("interrupted");
    await page.getByRole("button", { name: "Stop" }).click();
    await expect(lastAnswer(other)).toContainText("You stopped this answer.");
  });
});

test.describe("API key", () => {
  test.use({ expectedErrors: [/401/] });

  test("is asked for, refused, accepted, and forgotten with the tab", async ({ page, context }) => {
    await context.route(/\/(v1|beta)\/|\/status$/, async (route) => {
      if ((await route.request().headerValue("authorization")) === "Bearer sk-right") return route.continue();
      return route.fulfill({ status: 401, json: { error: { message: "Authentication Fails", type: "authentication_error" } } });
    });
    await page.reload();
    const dialog = page.getByRole("dialog", { name: "This server asks for an API key" });
    await expect(dialog.getByLabel("API key")).toBeFocused();
    await dialog.getByLabel("API key").fill("sk-wrong");
    await dialog.getByLabel("API key").press("Enter");
    await expect(dialog).toContainText("The server did not accept this key");
    await dialog.getByLabel("API key").fill("sk-right");
    await dialog.getByRole("button", { name: "Use this key" }).click();
    await expect(dialog).toBeHidden();
    await ask(page, "With a key");
    await expect(lastAnswer(page).locator(".markdown")).not.toBeEmpty();
    await page.reload();
    await expect(questions(page)).toHaveText("With a key");
    await expect(dialog).toBeHidden();
    expect(await page.evaluate(() => JSON.stringify(localStorage))).not.toContain("sk-right");
    const other = await context.newPage();
    await other.goto("./");
    await expect(other.getByRole("dialog")).toBeVisible();
    await other.getByRole("dialog").getByLabel("API key").fill("sk-right");
    await other.getByLabel("Remember on this device").check();
    await other.getByRole("button", { name: "Use this key" }).click();
    const third = await context.newPage();
    await third.goto("./");
    await expect(third.getByLabel("Model", { exact: true })).toBeVisible();
    await expect(third.getByRole("dialog")).toHaveCount(0);
  });

  test("that expires in mid-conversation is asked for, and the question asked again", async ({ page }) => {
    let valid = true;
    await page.route(/\/v1\/chat\//, async (route) => {
      if (valid || (await route.request().headerValue("authorization")) === "Bearer sk-right") return route.continue();
      return route.fulfill({ status: 401, json: { error: { message: "Authentication Fails" } } });
    });
    valid = false;
    await box(page).fill("Is it me?");
    await box(page).press("Enter");
    await page.getByRole("dialog").getByLabel("API key").fill("sk-right");
    await page.getByRole("button", { name: "Use this key" }).click();
    await answered(page);
    await expect(lastAnswer(page).locator(".markdown")).not.toBeEmpty();
    await expect(page.getByRole("group", { name: /^Version/ })).toHaveCount(0);
  });
});

test.describe("a server that is gone", () => {
  test.use({ expectedErrors: [/ERR_FAILED|ERR_CONNECTION|Failed to load/] });

  test("is told, noticed when it is back, and the conversation is still there", async ({ page }) => {
    await ask(page, "Before");
    await page.getByRole("link", { name: /^Server/ }).click();
    await page.route(/\/(v1|status)/, (route) => route.abort());
    await expect(page.getByText("The server cannot be reached. Trying again…")).toBeVisible({ timeout: 15_000 });
    await page.unroute(/\/(v1|status)/);
    await expect(page.getByText("Connected again")).toBeVisible({ timeout: 15_000 });
    await page.getByRole("link", { name: "Before" }).click();
    await ask(page, "After");
    await expect(questions(page)).toHaveText(["Before", "After"]);
  });
});

test.describe("the server's view", () => {
  test("shows what runs, lives, and says which worker is which", async ({ page }) => {
    await ask(page, "Something to count");
    await page.getByRole("link", { name: /^Server/ }).click();
    await expect(page.getByRole("heading", { name: "Server", level: 1 })).toBeVisible();
    await expect(page).toHaveTitle("Server · fathom");
    for (const name of ["Generation", "Requests", "KV cache", "Prefix cache", "CPU", "Memory"]) {
      await expect(page.locator(".tile dt", { hasText: name })).toBeVisible();
    }
    await expect(page.locator(".plot canvas")).toHaveCount(4);
    await expect(page.getByRole("img", { name: /Tokens per second, last 5 minutes: Generation/ })).toBeVisible();
    await expect(page.getByRole("row", { name: /active/ }).first()).toContainText(/ready/);
    const uptime = page.locator(".headline");
    const before = await uptime.textContent();
    await expect.poll(() => uptime.textContent()).not.toBe(before);
  });

  test("a worker that is replaced is seen", async ({ page }) => {
    canned();
    await box(page).fill("/stall");
    await box(page).press("Enter");
    await page.getByRole("link", { name: /^Server/ }).click();
    await expect(page.getByRole("row", { name: /active/ })).toContainText("restarting");
    await expect(page.locator(".headline")).toContainText("Degraded");
    await expect(page.getByRole("row", { name: /active/ })).toContainText("ready", { timeout: 10_000 });
  });
});
