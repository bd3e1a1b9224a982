// What the console does beyond links and forms: themes, dialogs, copying, live parts. Each page works without it,
// but for dialogs, which ask before something is done.
"use strict";

(() => {
  const token = document.querySelector('meta[name="csrf"]')?.content ?? "";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const say = (text) => {
    const place = document.getElementById("said");
    if (place) place.textContent = text;
  };

  // ---- htmx: the token of the session with every request that changes something

  document.addEventListener("htmx:config:request", (event) => {
    const { request, sourceElement } = event.detail.ctx;
    request.headers["x-csrf-token"] = token;
    // What loads by itself does not keep anybody signed in.
    if (sourceElement?.hasAttribute("data-live")) request.headers["bascule-live"] = "1";
  });

  // ---- colours

  const NEXT = { "": "dark", dark: "light", light: "" };
  const WORDS = { "": "System", dark: "Dark", light: "Light" };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("[data-theme-switch]")) return;
    event.preventDefault();
    const theme = form.querySelector("button").value;
    document.cookie = `bascule-theme=${theme}; path=/console; max-age=31536000; samesite=strict`;
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    for (const button of all("[data-theme-switch] button")) {
      button.value = NEXT[theme];
      button.querySelector("span").textContent = WORDS[theme];
    }
    document.dispatchEvent(new CustomEvent("bascule:theme"));
    say(`Colours: ${WORDS[theme]}`);
  });

  // ---- dialogs, copying

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-dialog]");
    if (opener) return document.getElementById(opener.dataset.dialog)?.showModal();
    if (event.target.closest("[data-close]")) return event.target.closest("dialog")?.close();
    if (event.target.matches("dialog")) return event.target.close(); // its backdrop
    const copy = event.target.closest("[data-copy]");
    if (copy) return copied(copy);
  });

  async function copied(button) {
    const label = button.querySelector("span");
    const before = button.dataset.label ?? label.textContent;
    button.dataset.label = before;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      label.textContent = "Copied";
      say("Copied");
    } catch {
      label.textContent = "Cannot copy";
      say("The browser does not allow to copy");
    }
    setTimeout(() => { label.textContent = before; }, 1500);
  }

  // A form is sent once, however often somebody clicks.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    setTimeout(() => {
      for (const button of all('button[type="submit"], button:not([type])', event.target)) button.disabled = true;
    });
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) for (const button of all("form button[disabled]")) button.disabled = false;
  });

  // ---- a link of `bascule console open`: its secret goes from the address into the form

  const entrance = document.querySelector("form[data-open]");
  if (entrance && location.hash.length > 20) {
    entrance.elements.link.value = location.hash.slice(1);
    history.replaceState(null, "", location.pathname + location.search);
    for (const part of all("[data-without-link]", entrance)) part.hidden = true;
    for (const part of all("[data-with-link]", entrance)) part.hidden = false;
    entrance.querySelector("button").focus();
  }

  // ---- times that grow older while one looks

  function ago(at) {
    const seconds = (Date.now() - at) / 1000;
    const size = Math.abs(seconds);
    if (size < 5) return "just now";
    const [unit, word] = size >= 86400 ? [86400, "d"] : size >= 3600 ? [3600, "h"] : size >= 60 ? [60, "min"] : [1, "s"];
    const span = `${Math.floor(size / unit)} ${word}`;
    return seconds > 0 ? `${span} ago` : `in ${span}`;
  }
  setInterval(() => {
    for (const time of all("time[data-ago]")) {
      const said = ago(Date.parse(time.dateTime));
      if (time.textContent !== said) time.textContent = said;
    }
  }, 10000);

  // ---- what has changed: an event for each page that would look different now

  let source = null;
  // The page as it was when it was made: what has changed since then is made up for with the first event.
  const made = document.querySelector('meta[name="pulse"]');
  let known = made ? { [made.dataset.page]: made.content } : {};

  function listen() {
    if (source || !token || document.hidden) return;
    source = new EventSource("/console/events");
    source.addEventListener("pulse", (event) => {
      const { pulse, badges } = JSON.parse(event.data);
      for (const [name, value] of Object.entries(pulse)) {
        if (name in known && known[name] !== value) {
          document.body.dispatchEvent(new CustomEvent(`live:${name}`, { bubbles: true }));
        }
      }
      known = pulse;
      for (const badge of all("[data-badge]")) show(badge, badges[badge.dataset.badge] ?? 0);
    });
    source.addEventListener("end", hush);
  }
  function show(badge, count) {
    const place = badge.querySelector("[data-count]");
    if (place.textContent !== String(count)) place.textContent = count;
    badge.hidden = !count;
  }
  // A page that nobody looks at needs no stream, and a browser has few connections to one host.
  function hush() {
    source?.close();
    source = null;
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
  window.addEventListener("pagehide", hush);
  window.addEventListener("pageshow", listen);
  listen();
})();
