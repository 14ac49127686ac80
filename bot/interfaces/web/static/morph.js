// Make an element's children those of a new version, and keep what did not change: focus, open details, scroll positions.
const keyOf = (node) => (node.nodeType === 1 ? node.dataset.key || node.id || "" : "");

const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

export function morph(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
  let at = parent.firstChild;
  for (const next of [...wanted.childNodes]) {
    const found = keyOf(next) ? keyed.get(keyOf(next)) : undefined;
    if (found && found !== at && alike(found, next)) {
      parent.insertBefore(found, at);
      update(found, next);
    } else if (at && alike(at, next)) {
      const here = at;
      at = at.nextSibling;
      update(here, next);
    } else {
      parent.insertBefore(next, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function update(node, next) {
  if (node.nodeType !== 1) {
    if (node.nodeValue !== next.nodeValue) node.nodeValue = next.nodeValue;
    return;
  }
  if (node.nodeName === "TIME" && node.dateTime === next.dateTime) return; // it says how long ago that is
  for (const { name, value } of next.attributes) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  for (const { name } of [...node.attributes]) {
    if (!next.hasAttribute(name) && !(name === "open" && node.nodeName === "DETAILS")) node.removeAttribute(name);
  }
  if (node.nodeName !== "TEXTAREA") morph(node, next);
}
