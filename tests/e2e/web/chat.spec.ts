import { answered, answers, ask, box, canned, expect, lastAnswer, questions, send, test } from "./page";

test("a question is answered, word by word, and the conversation is kept", async ({ page }) => {
  await send(page, "How deep is the ocean?");
  await expect(questions(page)).toHaveText("How deep is the ocean?");
  await answered(page);
  await expect(lastAnswer(page).locator(".markdown")).not.toBeEmpty();
  await expect(lastAnswer(page)).toContainText(/\d+ tokens/);
  await expect(page).toHaveURL(/#\/c\/[0-9a-f]+$/);
  const entry = page.getByRole("link", { name: "How deep is the ocean?" });
  await expect(entry).toHaveAttribute("aria-current", "page");
  await page.reload();
  await expect(questions(page)).toHaveText("How deep is the ocean?");
  await expect(lastAnswer(page).locator(".markdown")).not.toBeEmpty();
});

test("the question is sent as the API wants it", async ({ page }) => {
  await page.getByRole("button", { name: "Parameters" }).click();
  await page.getByLabel("System prompt").fill("Be brief.");
  await page.getByLabel("Temperature").fill("0.5");
  await page.getByLabel("Longest answer, in tokens").fill("50");
  await page.getByLabel("Seed").fill("7");
  await page.locator("label", { hasText: /^Off$/ }).click();
  const request = page.waitForRequest("**/v1/chat/completions");
  await ask(page, "One");
  expect((await request).postDataJSON()).toMatchObject({
    stream: true, stream_options: { include_usage: true }, temperature: 0.5, max_tokens: 50, seed: 7,
    thinking: { type: "disabled" },
    messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "One" }],
  });
});

test("the chosen model is asked, and remembered", async ({ page }) => {
  const names = await page.getByLabel("Model", { exact: true }).locator("option").allTextContents();
  const name = names.at(-1) as string;
  await page.getByLabel("Model", { exact: true }).selectOption(name);
  const request = page.waitForRequest("**/v1/chat/completions");
  await ask(page, "One");
  expect((await request).postDataJSON()).toMatchObject({ model: name });
  await page.getByRole("button", { name: "New chat", exact: true }).click();
  await expect(page.getByLabel("Model", { exact: true })).toHaveValue(name);
});

test("Shift+Enter begins a line, and Enter that ends a composed word does not send", async ({ page }) => {
  await box(page).fill("one");
  await box(page).press("Shift+Enter");
  await box(page).pressSequentially("two");
  await expect(box(page)).toHaveValue("one\ntwo");
  await box(page).evaluate((element) =>
    element.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", isComposing: true, bubbles: true, cancelable: true })));
  await expect(questions(page)).toHaveCount(0);
  await box(page).press("Enter");
  await expect(questions(page)).toHaveText("one\ntwo");
  await answered(page);
});

test("stop keeps what came, and the server hears of it", async ({ page }) => {
  canned();
  await send(page, "/slow");
  await expect(lastAnswer(page)).toContainText("Line 1");
  await page.getByRole("button", { name: "Stop" }).click();
  await answered(page);
  await expect(lastAnswer(page)).toContainText("You stopped this answer.");
  const text = await lastAnswer(page).locator(".markdown").textContent();
  await expect.poll(async () => {
    const status = await (await page.request.get("status")).json() as { models: { running: number }[] };
    return status.models[0]?.running;
  }).toBeLessThanOrEqual(2); // other tests run beside this one
  await page.waitForTimeout(400);
  expect(await lastAnswer(page).locator(".markdown").textContent()).toBe(text);
  await expect(box(page)).toBeFocused();
});

test("Escape stops too", async ({ page }) => {
  canned();
  await send(page, "/slow");
  await expect(lastAnswer(page)).toContainText("Line 1");
  await page.keyboard.press("Escape");
  await expect(lastAnswer(page)).toContainText("You stopped this answer.");
});

test("another answer and another question are versions that one can go back to", async ({ page }) => {
  await ask(page, "First");
  await ask(page, "Second");
  await lastAnswer(page).getByRole("button", { name: "Regenerate" }).click();
  await answered(page);
  await expect(lastAnswer(page).getByRole("group", { name: "Version 2 of 2" })).toBeVisible();
  await lastAnswer(page).getByRole("button", { name: "Previous version" }).click();
  await expect(lastAnswer(page).getByRole("group", { name: "Version 1 of 2" })).toBeVisible();

  await questions(page).first().hover();
  await questions(page).first().getByRole("button", { name: "Edit" }).click();
  const editor = page.getByLabel("Edit your message");
  await expect(editor).toBeFocused();
  await editor.fill("First, in other words");
  await page.getByRole("button", { name: "Send as a new branch" }).click();
  await answered(page);
  await expect(questions(page)).toHaveText([/First, in other words/]);
  await expect(answers(page)).toHaveCount(1);

  await questions(page).first().getByRole("button", { name: "Previous version" }).click();
  await expect(questions(page)).toHaveText([/First/, /Second/]);
  await expect(lastAnswer(page).getByRole("group", { name: "Version 1 of 2" })).toBeVisible();
  await page.reload();
  await expect(questions(page)).toHaveText([/First/, /Second/]);
});

test("a reload in mid-stream keeps the answer so far and offers to go on", async ({ page }) => {
  canned();
  await send(page, "/slow");
  await expect(lastAnswer(page)).toContainText("Line 2");
  await page.waitForTimeout(500);
  await page.reload();
  await expect(lastAnswer(page)).toContainText("Line 1");
  await expect(lastAnswer(page)).toContainText("This answer was interrupted.");
  const request = page.waitForRequest("**/beta/chat/completions");
  await lastAnswer(page).getByRole("button", { name: "Continue" }).click();
  expect((await request).postDataJSON()).toMatchObject({ messages: [{ role: "user" }, { role: "assistant", prefix: true }] });
  await answered(page);
  await expect(lastAnswer(page)).toContainText("Line 1");
  await expect(lastAnswer(page)).toContainText("and on it goes from there.");
  await expect(lastAnswer(page)).not.toContainText("interrupted");
  await expect(answers(page)).toHaveCount(1);
});

test("a pause of the engine is told, and the answer goes on", async ({ page }) => {
  canned();
  await send(page, "/stall");
  await expect(lastAnswer(page)).toContainText("Waiting for the engine…");
  await answered(page);
  await expect(lastAnswer(page)).toContainText("goes on as if nothing had been.");
  await expect(lastAnswer(page)).not.toContainText("Waiting for the engine");
});

test("waiting in the queue is told", async ({ page }) => {
  canned();
  await send(page, "/queue");
  await expect(lastAnswer(page)).toContainText("In the queue…");
  await answered(page);
  await expect(lastAnswer(page)).toContainText("fathom");
});

test("reasoning is shown while it goes on, then folded with its time", async ({ page }) => {
  canned();
  await send(page, "/think");
  const reasoning = lastAnswer(page).getByRole("region", { name: "Reasoning" });
  await expect(reasoning.getByText("The user asks about depth.")).toBeVisible();
  await answered(page);
  await expect(reasoning.getByText("The user asks about depth.")).toBeHidden();
  const toggle = reasoning.getByRole("button", { name: /Thought for/ });
  await expect(toggle).toHaveAttribute("aria-expanded", "false");
  await toggle.click();
  await expect(reasoning.getByText("The user asks about depth.")).toBeVisible();
  await page.reload();
  await expect(lastAnswer(page).getByRole("button", { name: /Thought for/ })).toBeVisible();
});

test("code is coloured and can be copied exactly", async ({ page, context }) => {
  canned();
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await ask(page, "/code");
  await expect(lastAnswer(page).locator(".hljs-keyword").first()).toBeVisible();
  const block = lastAnswer(page).locator(".code").nth(1);
  await block.getByRole("button", { name: "Copy" }).click();
  await expect(page.getByText("Copied")).toBeVisible();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toContain('    return fathoms * 1.8288\n\nprint(f"');
});

test("tool calls are shown", async ({ page }) => {
  canned();
  await ask(page, "/tools");
  await expect(lastAnswer(page).locator(".tool-call")).toContainText("depth_at");
  await expect(lastAnswer(page).locator(".tool-call")).toContainText('"place": "Challenger Deep"');
});

test("an answer that ends at the limit of tokens can be continued", async ({ page }) => {
  canned();
  await ask(page, "/length");
  await expect(lastAnswer(page)).toContainText("reached the limit");
  await lastAnswer(page).getByRole("button", { name: "Continue" }).click();
  await answered(page);
  await expect(lastAnswer(page)).toContainText("The answer ends before …and on it goes");
});

test.describe("faults", () => {
  test.use({ expectedErrors: [/Failed to load resource/] });

  test("an error event in the stream", async ({ page }) => {
    canned();
    await ask(page, "/error");
    await expect(lastAnswer(page)).toContainText("the engine gave up after 3 restarts");
    await expect(lastAnswer(page).locator(".markdown")).toHaveText("The line");
  });

  test("a full queue, tried again in its place", async ({ page }) => {
    canned();
    await ask(page, "/busy");
    await expect(lastAnswer(page)).toContainText("The server is busy. Try again in 2 s.");
    await lastAnswer(page).getByRole("button", { name: "Try again" }).click();
    await answered(page);
    await expect(page.getByRole("group", { name: /^Version/ })).toHaveCount(0);
  });

  test("a connection that breaks in mid-stream", async ({ page }) => {
    canned();
    await ask(page, "/cut");
    await expect(lastAnswer(page)).toContainText("The line runs out and");
    await expect(lastAnswer(page)).toContainText("This answer was interrupted.");
    await lastAnswer(page).getByRole("button", { name: "Continue" }).click();
    await answered(page);
    await expect(lastAnswer(page)).toContainText("The line runs out and …and on it goes from there.");
  });
});

test("what a model writes stays text", async ({ page }) => {
  canned();
  await ask(page, "/xss");
  const answer = lastAnswer(page);
  await expect(answer).toContainText("<script>window.attacked = 1</script>");
  await expect(answer).toContainText('<img src=x onerror="window.attacked=2">');
  await expect(answer).toContainText("end of attack");
  await expect(answer.locator("script, img, svg[onload], iframe")).toHaveCount(0);
  await expect(answer.locator("a[href^='javascript']")).toHaveCount(0);
  await answer.getByText("click", { exact: false }).first().click();
  expect(await page.evaluate(() => (window as unknown as Record<string, unknown>)["attacked"])).toBeUndefined();
});

test("what a user writes stays text", async ({ page }) => {
  const text = '<img src=x onerror="window.attacked=1"> **not bold**';
  await ask(page, text);
  await expect(questions(page)).toHaveText(text);
  await page.reload();
  await expect(questions(page)).toHaveText(text);
  expect(await page.evaluate(() => (window as unknown as Record<string, unknown>)["attacked"])).toBeUndefined();
});

test("an answer goes on while another conversation is read", async ({ page }) => {
  canned();
  await send(page, "/long");
  await page.getByRole("button", { name: "New chat", exact: true }).click();
  await ask(page, "Meanwhile");
  await page.getByRole("link", { name: "/long" }).click();
  await answered(page);
  await expect(lastAnswer(page)).toContainText("Line 120");
});

test("a long answer is followed, unless one scrolls up to read", async ({ page }) => {
  canned();
  await send(page, "/long");
  const log = page.getByRole("region", { name: "Messages" });
  await expect(lastAnswer(page)).toContainText("Line 40");
  await log.hover();
  await page.mouse.wheel(0, -600);
  const button = page.getByRole("button", { name: "Jump to the newest message" });
  await expect(button).toBeVisible();
  await answered(page);
  await expect(button).toBeVisible();
  await button.click();
  await expect(button).toBeHidden();
  await expect(lastAnswer(page).getByText("Line 120:")).toBeInViewport();
});
