// Compiles files by one version of TypeScript, in the ways that projects are set up, and says what is wrong in them and
// in the declarations of our package. What is wrong in those of the clients is theirs: old compilers cannot read all.
// Arguments: the package of the compiler, the ways, and behind "--" the files.
import { createRequire } from "node:module";
import process from "node:process";

const [, , compiler, ...rest] = process.argv;
const [ways, files] = [rest.slice(0, rest.indexOf("--")), rest.slice(rest.indexOf("--") + 1)];
const ts = createRequire(import.meta.url)(compiler);
const { ModuleKind, ModuleResolutionKind } = ts;

const WAYS = {
  NodeNext: { module: ModuleKind.NodeNext },
  Bundler: { module: ModuleKind.ESNext, moduleResolution: ModuleResolutionKind.Bundler },
  CommonJS: {
    module: ModuleKind.CommonJS,
    moduleResolution: ModuleResolutionKind.Node10 ?? ModuleResolutionKind.NodeJs,
    esModuleInterop: true,
  },
};

for (const way of ways) {
  const program = ts.createProgram(files, {
    ...WAYS[way],
    noEmit: true,
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2022.d.ts"],
    types: ["node"],
  });
  const isOurs = ({ fileName }) => !fileName.includes("node_modules") || fileName.includes("@holdfast/lock/");
  const wrong = program.getSourceFiles().filter(isOurs).flatMap((file) => [
    ...program.getSyntacticDiagnostics(file),
    ...program.getSemanticDiagnostics(file),
  ]);
  for (const { file, messageText } of [...program.getOptionsDiagnostics(), ...wrong]) {
    console.log(`${way}: ${file?.fileName ?? ""}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`);
  }
  console.log(`${way}: ${ts.version}`);
}
