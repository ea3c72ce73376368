// <durable-progress>: polls the application's own status view and shows what it says, until the run has ended.
// All text goes in as text, never as HTML. As a module it is loaded once, however often it is on a page.

const FIRST_MS = 1000;
const LONGEST_MS = 30000;
const GROWTH = 1.5; // of the pause, while nothing changes
const OPEN = new Set(["pending", "running", "paused", "blocked", "continued_as_new"]);

class DurableProgress extends HTMLElement {
  #timer = null;
  #request = null;
  #pause = FIRST_MS;
  #seen = null;
  #onVisibility = () => {
    if (!document.hidden) this.#poll();
  };

  connectedCallback() {
    if (!this.dataset.url) return;
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#wait();
  }

  disconnectedCallback() {
    this.#stop();
  }

  #stop() {
    document.removeEventListener("visibilitychange", this.#onVisibility);
    clearTimeout(this.#timer);
    this.#request?.abort();
  }

  /** The next poll is after the pause, a little more or less, so that many pages do not ask at one time. */
  #wait(least = 0) {
    clearTimeout(this.#timer);
    const pause = Math.max(this.#pause * (0.9 + 0.2 * Math.random()), least);
    this.#timer = setTimeout(() => this.#poll(), pause);
  }

  async #poll() {
    clearTimeout(this.#timer);
    if (document.hidden || !this.isConnected) return; // its becoming visible polls at once
    this.#request?.abort();
    const request = (this.#request = new AbortController());
    try {
      // "no-cache": the browser sends the entity tag of what it has, and answers from its cache after a 304.
      const response = await fetch(this.dataset.url, {
        cache: "no-cache",
        credentials: "same-origin",
        headers: { Accept: "application/json" },
        signal: request.signal,
      });
      if (response.redirected || [401, 403, 404, 410].includes(response.status)) {
        this.#problem(this.dataset.gone); // logged out, or it is not theirs any more
        return this.#stop();
      }
      if (!response.ok) throw new Error(`The server answered ${response.status}.`);
      this.#take(await response.json(), retryAfter(response));
    } catch (error) {
      if (request.signal.aborted) return;
      this.#problem(this.dataset.lost);
      this.#slowDown();
      this.#wait();
    }
  }

  #take(status, least) {
    const seen = JSON.stringify([status.status, status.progress]);
    const isNew = seen !== this.#seen;
    this.#seen = seen;
    this.#show(status);
    if (isNew) this.#tell("change", status);
    if (!OPEN.has(status.status)) {
      this.#stop();
      return this.#tell("end", status);
    }
    if (isNew) this.#pause = FIRST_MS;
    else this.#slowDown();
    this.#wait(least);
  }

  #slowDown() {
    this.#pause = Math.min(this.#pause * GROWTH, LONGEST_MS);
  }

  /** durable:change and durable:end, for the application's own script; detail is the answer. */
  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(`durable:${name}`, { bubbles: true, detail }));
  }

  #show({ status, progress, error_message: error }) {
    const word = JSON.parse(this.dataset.words)[status] ?? status;
    this.dataset.state = status;
    this.#write("word", word);
    this.#write("text", (OPEN.has(status) && progress?.text) || ""); // at the end it is what it was doing, not what it is
    this.#problem(error ?? "");
    const bar = this.#part("bar");
    bar.setAttribute("aria-label", word);
    bar.hidden = !OPEN.has(status) && status !== "completed";
    if (status === "completed") fill(bar, 1, 1);
    else if (progress?.total > 0 && progress.done !== null) fill(bar, progress.done, progress.total);
    else bar.removeAttribute("value");
  }

  #problem(text) {
    this.#part("problem").hidden = !text;
    this.#write("problem", text);
  }

  /** Only what has changed: a live region is read aloud whenever it is written. */
  #write(name, text) {
    const part = this.#part(name);
    if (part.textContent !== text) part.textContent = text;
  }

  #part(name) {
    return this.querySelector(`[data-part="${name}"]`);
  }
}

function fill(bar, value, max) {
  bar.max = max;
  bar.value = value;
}

function retryAfter(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  return Number.isFinite(seconds) ? Math.min(seconds * 1000, LONGEST_MS) : 0;
}

if (!customElements.get("durable-progress")) customElements.define("durable-progress", DurableProgress);
