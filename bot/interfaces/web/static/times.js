// Times as how long ago they are. Without this script they are shown as dates.
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const units = [["day", 86400], ["hour", 3600], ["minute", 60]];

function ago(at) {
  const seconds = (at - Date.now()) / 1000;
  for (const [unit, length] of units) if (Math.abs(seconds) >= length) return words.format(Math.trunc(seconds / length), unit);
  return "just now";
}

export function tellTimes(root = document) {
  for (const each of root.querySelectorAll("time[data-ago]")) {
    if (!each.title) each.title = each.textContent;
    const text = ago(Date.parse(each.dateTime));
    if (each.textContent !== text) each.textContent = text;
  }
}
