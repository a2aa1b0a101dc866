// Builds the page into src/server/web/assets, from where it is compiled into the program.
// `npm run dev` answers the API itself (dev-server.mjs), or passes it on to FATHOM_URL.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";
import { apiHandler, contentSecurityPolicy } from "./dev-server.mjs";

const outDir = "../src/server/web/assets";
const api = "^/(v1|beta|status|health)\\b";

/** The page is strict by itself, whatever the server in front of it says. Not while developing: Vite's
 * live updates need inline styles. */
function policy(): Plugin {
  return {
    name: "policy",
    apply: "build",
    transformIndexHtml: (html) =>
      html.replace("<head>", `<head>\n    <meta http-equiv="Content-Security-Policy" content="${contentSecurityPolicy}" />`),
  };
}

/** A .gz beside each file that gains from it, for clients behind a slow line. */
function compressed(): Plugin {
  const walk = (directory: string) => {
    for (const name of readdirSync(directory)) {
      const path = join(directory, name);
      if (statSync(path).isDirectory()) walk(path);
      else if (statSync(path).size > 2048) writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
    }
  };
  return { name: "compressed", apply: "build", closeBundle: () => walk(join(import.meta.dirname, outDir)) };
}

function cannedApi(): Plugin {
  return {
    name: "canned-api",
    apply: "serve",
    configureServer(server) {
      if (!process.env["FATHOM_URL"]) server.middlewares.use(apiHandler());
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [policy(), compressed(), cannedApi()],
  build: {
    outDir,
    emptyOutDir: true,
    // Files under static/ carry a hash of their content in their names and never change.
    assetsDir: "static",
    assetsInlineLimit: 0,
    // Their licences ask to be passed on with the code.
    license: { fileName: "licenses.txt" },
    modulePreload: { polyfill: false },
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    reportCompressedSize: false,
  },
  server: {
    host: "127.0.0.1",
    ...(process.env["FATHOM_URL"] && { proxy: { [api]: process.env["FATHOM_URL"] } }),
  },
  test: { include: ["src/**/*.test.ts"] },
} as Parameters<typeof defineConfig>[0]);
