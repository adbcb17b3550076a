// Keeps the page up to date: the server sends what has changed, and this puts it where it belongs. Without it, the page and its
// forms work all the same; a reload shows what is new.
"use strict";

const byId = (id) => document.getElementById(id);
const lines = byId("lines");
const live = byId("live");
const follow = byId("follow");

// How long something has been going on. A page that counts by itself need not be told each second.
const two = (number) => String(number).padStart(2, "0");
function spoken(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
}
function count() {
  for (const time of document.querySelectorAll("time[data-since]")) {
    time.textContent = spoken(Math.max(0, Math.floor((Date.now() - Number(time.dataset.since)) / 1000)));
  }
}
setInterval(count, 1000);
count();

// What a person was doing in a part that is put in anew stays: what was open, what was filled in, where the focus was.
function keep(part) {
  const open = [...part.querySelectorAll("details[open]")].map((one) => one.id || place(part, one));
  const filled = [...part.querySelectorAll("input:not([type=hidden])")].map((one) => [one.value, one.checked]);
  const focus = part.contains(document.activeElement) ? place(part, document.activeElement) : null;
  return { open, filled, focus, about: about(part) };
}
// What a part's forms are about: the approval of one release is not that of the next.
const about = (part) =>
  JSON.stringify([...part.querySelectorAll("input[type=hidden]:not([name=word])")].map((one) => one.value));
const place = (part, element) => [...part.querySelectorAll("*")].indexOf(element);
function put(id, html) {
  const old = byId(id);
  if (!old) return location.reload();
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  const part = fresh.content.firstElementChild;
  if (part.isEqualNode(old)) return;
  const kept = keep(old);
  const all = part.querySelectorAll("*");
  const isAlike = old.querySelectorAll("*").length === all.length;
  old.replaceWith(part);
  if (kept.about !== about(part)) return count();
  for (const one of kept.open) {
    const element = typeof one === "string" ? byId(one) : isAlike && all[one];
    if (element) element.open = true;
  }
  const inputs = part.querySelectorAll("input:not([type=hidden])");
  if (inputs.length === kept.filled.length) {
    inputs.forEach((input, at) => ([input.value, input.checked] = kept.filled[at]));
  }
  if (kept.focus !== null && isAlike) all[kept.focus].focus({ preventScroll: true });
  count();
}

// The log: at its end it follows, and whoever scrolls up is left in peace.
function append({ anew, html, most }) {
  if (anew) lines.innerHTML = html;
  else lines.insertAdjacentHTML("beforeend", html);
  while (lines.childElementCount > most) lines.firstElementChild.remove();
  if (follow.checked) lines.scrollTop = lines.scrollHeight;
}
follow.parentElement.hidden = false;
lines.scrollTop = lines.scrollHeight;
lines.addEventListener("scroll", () => {
  follow.checked = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 24;
});
follow.addEventListener("change", () => {
  if (follow.checked) lines.scrollTop = lines.scrollHeight;
});

const say = (text) => (byId("status").textContent = text);
function state(word, text) {
  live.className = `live ${word}`;
  live.textContent = text;
}

const source = new EventSource(document.body.dataset.events);
source.onopen = () => state("on", "Live");
source.onerror = () => state("off", "Not live: the run cannot be reached");
const on = (name, does) => source.addEventListener(name, (event) => does(JSON.parse(event.data)));
on("part", ({ id, html }) => put(id, html));
on("lines", append);
on("title", ({ title }) => (document.title = title));
on("say", ({ says }) => say(says));
on("end", () => {
  source.close();
  state("off", "The run has ended: this is how it stood");
});

// Forms are sent from here, so that the page stays as it is; what comes of it comes as everything does.
document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { target: form, submitter } = event;
  const folded = form.closest("details")?.id;
  const body = new URLSearchParams(new FormData(form, submitter));
  for (const button of form.querySelectorAll("button")) button.disabled = true;
  try {
    // Not `form.action`, which is the field of that name.
    const answer = await fetch(form.getAttribute("action"), { method: "POST", body, headers: { "x-console": "script" }, signal: AbortSignal.timeout(10000) });
    say(await answer.text());
    if (answer.ok && folded) byId(folded)?.removeAttribute("open");
  } catch {
    say("The run cannot be reached.");
  }
  for (const button of form.querySelectorAll("button")) button.disabled = button.hidden;
});
