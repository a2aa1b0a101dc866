// The page in Debian's Chromium: against dev-server.mjs with the built page, or against FATHOM_URL.
import { defineConfig } from "@playwright/test";

const port = 8098;
const given = process.env["FATHOM_URL"];

export default defineConfig({
  testDir: "../tests/e2e/web",
  outputDir: "test-results",
  // Two cores: more pages at once only make each other slow.
  workers: Number(process.env["FATHOM_WEB_WORKERS"] ?? 2),
  fullyParallel: true,
  timeout: 30_000,
  expect: { timeout: 8_000 },
  reporter: [["list"]],
  use: {
    baseURL: given ?? `http://127.0.0.1:${port}/`,
    locale: "en-US",
    colorScheme: "light",
    viewport: { width: 1280, height: 800 },
    trace: "retain-on-failure",
    launchOptions: { executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium" },
  },
  ...(!given && {
    webServer: {
      command: `node dev-server.mjs --port ${port} --tokens-per-second 120`,
      url: `http://127.0.0.1:${port}/health`,
      reuseExistingServer: false,
    },
  }),
});
