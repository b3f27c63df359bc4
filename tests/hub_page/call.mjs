/** Calls functions of the page's modules: reads ``[[module, function, arguments], …]``, prints the results. */

import { readFileSync } from "node:fs";

const results = [];
for (const [module, name, values] of JSON.parse(readFileSync(0, "utf8"))) {
    const found = await import(new URL(`../../trio_signal/hub/page/${module}`, import.meta.url));
    results.push(found[name](...values));
}
console.log(JSON.stringify(results));
