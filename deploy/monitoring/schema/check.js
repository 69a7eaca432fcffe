// Checks that dashboards are what Grafana's own types say, those of each
// version that is installed beside this file: no unknown key, no value that an
// enumeration has not, at the dashboard, its panels, their options and fields.
//
//     npm ci && npm run check
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import ts from "typescript";

const here = import.meta.dirname;
const kinds = { timeseries: "timeseries", stat: "stat", "state-timeline": "statetimeline", table: "table" };

// Grafana's Prometheus data source reads these beside what the types have.
const ofPrometheus = ["expr", "step", "titleFormat", "tagKeys"];
// The dashboards are made with a library that has one type for all kinds of
// variables, so each has keys of the others.
const ofOtherVariables = ["auto", "auto_min", "auto_count"];

// source is a program in which each dashboard is a value of Grafana's types.
// An enumeration's values are written as plain text in JSON.
function source(types, files) {
  const out = [
    `import type { Dashboard, Panel } from "${types}/raw/dashboard/x/${one(`${types}/raw/dashboard/x`)}";`,
    "type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T",
    "  : T extends (infer E)[] ? Plain<E>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;",
  ];
  for (const folder of Object.values(kinds)) {
    const at = `${types}/raw/composable/${folder}/panelcfg/x`;
    out.push(`import type * as ${folder} from "${at}/${one(at)}";`);
  }
  files.forEach((file, n) => {
    const board = JSON.parse(fs.readFileSync(file, "utf8"));
    for (const a of board.annotations.list) for (const key of ofPrometheus) delete a[key];
    for (const v of board.templating.list) for (const key of ofOtherVariables) delete v[key];
    const { panels, ...rest } = board;
    out.push(`export const board${n}: Plain<Omit<Dashboard, "panels">> = ${JSON.stringify(rest)}; // ${path.basename(file)}`);
    for (const p of panels.filter((p) => p.type !== "row")) {
      const kind = kinds[p.type];
      if (!kind) throw new Error(`${file}: panel ${p.id} is a ${p.type}, of which nothing is known here`);
      const { options = {}, ...panel } = p;
      const custom = panel.fieldConfig.defaults.custom ?? {};
      const about = `// ${path.basename(file)}: ${p.title}`;
      out.push(`export const panel${n}_${p.id}: Plain<Omit<Panel, "options">> = ${JSON.stringify(panel)}; ${about}`);
      out.push(`export const options${n}_${p.id}: Plain<Partial<${kind}.Options>> = ${JSON.stringify(options)}; ${about}`);
      out.push(`export const field${n}_${p.id}: Plain<Partial<${kind === "stat" ? "object" : kind + ".FieldConfig"}>> = ${JSON.stringify(custom)}; ${about}`);
    }
  });
  return out.join("\n");
}

// one is the only module of types in a folder; its name differs by version.
function one(folder) {
  const found = fs.readdirSync(folder).filter((f) => f.endsWith(".d.ts"));
  if (found.length !== 1) throw new Error(`${folder} has ${found.length} modules of types, want one`);
  return found[0].replace(/\.d\.ts$/, "");
}

function check(version, files) {
  const root = path.join(here, "node_modules", `grafana-schema-${version}`);
  const types = path.join(root, "dist/types");
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "dashboards-"));
  try {
    const file = path.join(dir, "dashboards.ts");
    const text = source(types, files);
    fs.writeFileSync(file, text);
    const program = ts.createProgram([file], {
      noEmit: true, strict: true, skipLibCheck: true, types: [],
      target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler,
      paths: { "@grafana/schema": [path.join(types, "index.d.ts")] },
    });
    const lines = text.split("\n");
    const faults = ts.getPreEmitDiagnostics(program);
    for (const d of faults) {
      const at = d.file && d.start !== undefined ? lines[d.file.getLineAndCharacterOfPosition(d.start).line].split("// ").pop() : "";
      console.error(`Grafana ${version}: ${at}: ${ts.flattenDiagnosticMessageText(d.messageText, " ").slice(0, 300)}`);
    }
    console.log(`Grafana ${version}: ${files.length} dashboards, ${faults.length} faults`);
    return faults.length;
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error("usage: node check.js FILE.json ...");
  process.exit(2);
}
const faults = ["12", "13"].map((version) => check(version, files));
process.exit(faults.some((n) => n > 0) ? 1 : 0);
