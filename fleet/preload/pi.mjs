// Loaded into pi as an extension, the only one. pi asks nobody before it runs a command or writes a file; here it asks
// for whatever is not known to only read, within the workspace. An error in here blocks the call as well.
import { realpathSync } from "node:fs";
import { resolve, sep } from "node:path";

const READING = new Set(["read", "grep", "find", "ls"]);

export default function (pi) {
  const { MUSTER_PI_PROVIDER: provider, MUSTER_PI_BASE_URL: baseUrl } = process.env;
  if (provider && baseUrl) pi.registerProvider(provider, { baseUrl });

  pi.on("tool_call", async (event, ctx) => {
    if (READING.has(event.toolName) && within(ctx.cwd, event.input?.path ?? ".")) return undefined;
    if (!ctx.hasUI) return { block: true, reason: "Nobody can be asked." };
    const allowed = await ctx.ui.confirm(event.toolName, whole(event.input));
    return allowed === true ? undefined : { block: true, reason: "The operator did not allow it." };
  });
}

// Whether there is such a file or folder in the workspace, links followed.
function within(workspace, path) {
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
