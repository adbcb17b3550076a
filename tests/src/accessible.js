// What is wrong with the page for who does not see it, or not well: a list of sentences, empty when nothing is.
const wrong = [];
const seen = (element) => element.checkVisibility({ checkVisibilityCSS: true }) && !element.closest(".hidden, .skip");
const what = (element) => `${element.localName}${element.id && "#" + element.id}.${element.className} "${element.textContent.trim().slice(0, 40)}"`;

const name = (element) =>
  element.getAttribute("aria-label") || element.textContent.trim() || [...(element.labels || [])].map((label) => label.textContent.trim()).join(" ");
for (const element of document.querySelectorAll("a, button, summary, input:not([type=hidden]), [role=log], nav, [role=group]")) {
  if (!name(element)) wrong.push(`no name: ${what(element)}`);
}
for (const [selector, count] of [["h1", 1], ["main", 1], ["header", 1], ["[role=status]", 1], ["html[lang]", 1]]) {
  if (document.querySelectorAll(selector).length !== count) wrong.push(`not ${count} ${selector}`);
}
let level = 0;
for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
  const own = Number(heading.localName[1]);
  if (own > level + 1) wrong.push(`a level is left out before ${what(heading)}`);
  level = own;
}
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) wrong.push(`twice: #${id}`);
for (const element of document.querySelectorAll("[aria-labelledby]")) {
  if (!document.getElementById(element.getAttribute("aria-labelledby"))) wrong.push(`labelled by nothing: ${what(element)}`);
}
if (document.querySelector("#lines").getAttribute("aria-live") !== "off") wrong.push("the log speaks");
if (document.documentElement.scrollWidth > innerWidth) wrong.push(`wider than the window: ${document.documentElement.scrollWidth} of ${innerWidth}`);

// Contrast, as WCAG 2 counts it.
const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const colour = parse(getComputedStyle(one).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !seen(element)) continue;
  const [front, back] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
  const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
  if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(2)}: ${what(element)}`);
}
return wrong.slice(0, 20).join("\n");
