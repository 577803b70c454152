// Trims package-lock.json after `npm install --package-lock-only`: node-llama-cpp's optional platform packages
// leave the lock (only the one that package.json names is installed), and so do addresses: any
// registry can serve it.
import fs from "node:fs";

const file = new URL("package-lock.json", import.meta.url);
const lock = JSON.parse(fs.readFileSync(file, "utf8"));
const kept = new Set(Object.keys(lock.packages[""].dependencies));
delete lock.packages["node_modules/node-llama-cpp"].optionalDependencies;
for (const [path, entry] of Object.entries(lock.packages)) {
  delete entry.resolved;
  delete entry.funding;
  if (path.startsWith("node_modules/@node-llama-cpp/") && !kept.has(path.slice("node_modules/".length)))
    delete lock.packages[path];
}
fs.writeFileSync(file, JSON.stringify(lock, null, 2) + "\n");
