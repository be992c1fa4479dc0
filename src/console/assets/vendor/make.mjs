// Makes what this folder holds of other people's work: `node make.mjs`, which needs npm.
//
// 1. Versions are those of package-lock.json, so the same bytes come out each time; SHA256SUMS holds their digests,
//    which a test of the program checks. Cargo runs none of this.
// 2. Large files are compressed here, once, and served as they are.
// 3. GraphiQL's fonts are left out, 350 KB of them: the page uses those of the system.
// 4. LICENCES.txt holds the licence of every package of which a byte is in the bundle.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

process.chdir(import.meta.dirname);
execFileSync("npm", ["ci", "--silent"], { stdio: "inherit" });
const { build } = await import("esbuild");

const withoutFonts = {
  name: "without-fonts",
  setup: ({ onLoad }) =>
    onLoad({ filter: /graphiql\/dist\/style\.css$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replace(/@font-face\s*\{[^}]*\}/g, ""),
      loader: "css",
    })),
};

const bundled = await build({
  entryPoints: ["graphiql.mjs"],
  outfile: "graphiql.js",
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  format: "esm",
  target: "es2022",
  define: { "process.env.NODE_ENV": '"production"' },
  alias: { "react-style-singleton": "./style-singleton.mjs" },
  plugins: [withoutFonts],
  legalComments: "none",
});
const output = (end) => bundled.outputFiles.find(({ path }) => path.endsWith(end)).contents;
const folders = Object.keys(bundled.metafile.inputs).map((path) => path.match(/^.*node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0]);
const packages = [...new Set([...folders.filter(Boolean), "node_modules/uplot"])].sort();

const licence = (folder) => {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`));
  const file = readdirSync(folder).find((file) => /^(licen[cs]e|copying)/i.test(file));
  const text = file ? readFileSync(`${folder}/${file}`, "utf8").trim() : `Licence: ${license}`;
  return `${name} ${version} (${license})\n\n${text}\n`;
};

const zip = (bytes) => gzipSync(bytes, { level: 9 });
const files = {
  "graphiql.css.gz": zip(output(".css")),
  "graphiql.js.gz": zip(output(".js")),
  "LICENCES.txt.gz": zip(packages.map(licence).join(`\n${"-".repeat(80)}\n\n`)),
  "uplot.css": readFileSync("node_modules/uplot/dist/uPlot.min.css"),
  "uplot.js.gz": zip(readFileSync("node_modules/uplot/dist/uPlot.iife.min.js")),
};
for (const [name, bytes] of Object.entries(files)) {
  writeFileSync(name, bytes);
}
const sums = Object.entries(files).map(([name, bytes]) => `${createHash("sha256").update(bytes).digest("hex")}  ${name}\n`);
writeFileSync("SHA256SUMS", sums.join(""));
