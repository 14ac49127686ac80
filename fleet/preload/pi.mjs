// Loaded into pi as an extension, the only one. pi asks nobody before it runs a command or writes a file; here it asks
// for whatever is not known to only read, within the workspace. An error in here blocks the call as well.
import { realpathSync } from "node:fs";
import { resolve, sep } from "node:path";

// Tools that only read, and what they read when nothing is said.
const READING = { read: undefined, grep: ".", find: ".", ls: "." };

export default function (pi) {
  const { MUSTER_PI_PROVIDER: provider, MUSTER_PI_BASE_URL: baseUrl } = process.env;
  if (provider && baseUrl) pi.registerProvider(provider, { baseUrl });

  pi.on("tool_call", async (event, ctx) => {
    const { toolName, input } = event;
    if (Object.hasOwn(READING, toolName) && within(ctx.cwd, input?.path ?? READING[toolName])) return undefined;
    if (!ctx.hasUI) return { block: true, reason: "No operator can be asked." };
    const allowed = await ctx.ui.confirm(toolName, whole(input));
    return allowed === true ? undefined : { block: true, reason: "The operator did not allow it." };
  });
}

// Whether there is such a file or folder in the workspace, links followed. Of what pi makes another path (`~`, `@`, spaces
// of other alphabets) nothing is said.
function within(workspace, path) {
  if (typeof path !== "string" || /^[~@]|^file:|[^\S ]/i.test(path)) return false;
  try {
    const root = realpathSync(workspace);
    const real = realpathSync(resolve(root, path));
    return real === root || real.startsWith(root + sep);
  } catch {
    return false;
  }
}

// All of what a tool was given, a command first and as it is.
function whole(input) {
  const { command, ...rest } = input ?? {};
  if (typeof command !== "string") return JSON.stringify(input, null, 1);
  return Object.keys(rest).length ? `${command}\n${JSON.stringify(rest, null, 1)}` : command;
}
