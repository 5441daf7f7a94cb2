// Runs the cases of one driver and says as JSON what each gave: {name: {ok, error}}.
// Each script exports nothing: it hands its cases to `report`, which prints one line and exits.

import assert from "node:assert/strict";

export { assert };

export const url = process.argv[2];
const only = process.argv[3];

export async function report(cases, last = async () => {}) {
  const results = {};
  for (const [name, run] of Object.entries(cases)) {
    if (only && name !== only) continue;
    try {
      await run();
      results[name] = { ok: true };
    } catch (error) {
      results[name] = { ok: false, error: String(error?.stack ?? error) };
    }
  }
  try {
    await last();
  } catch (error) {
    results["the end"] = { ok: false, error: String(error?.stack ?? error) };
  }
  process.stdout.write(JSON.stringify(results) + "\n");
}

// Many turns at the same time, so that clients share few server connections.
export function together(count, turn) {
  return Promise.all(Array.from({ length: count }, (_, number) => turn(number)));
}
