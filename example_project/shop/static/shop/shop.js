"use strict";

// Places an order and polls its steps. All text goes in as text, never as HTML.

const POLL_MS = 400;
const MARKS = { running: "●", done: "✓", failed: "✗" };
const OPEN = new Set(["pending", "running", "paused", "blocked"]);

const form = document.getElementById("order-form");
const problem = document.getElementById("problem");
const orders = document.getElementById("orders");
const template = document.getElementById("order-template");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  problem.hidden = true;
  try {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    const answer = await response.json();
    if (!response.ok) {
      throw new Error(Object.values(answer.errors ?? {}).flat().join(" ") || `The shop answered ${response.status}.`);
    }
    watch(answer, form.elements.item.selectedOptions[0].text);
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  } finally {
    button.disabled = false;
  }
});

async function watch(placed, item) {
  const card = template.content.firstElementChild.cloneNode(true);
  const part = (name) => card.querySelector(`[data-name="${name}"]`);
  part("title").textContent = `Order ${placed.order}: ${item}`;
  part("title").href = placed.page_url;
  part("workflow").textContent = `Workflow ${placed.workflow_id}`;
  orders.prepend(card);
  for (let open = true; open; ) {
    try {
      const response = await fetch(placed.steps_url);
      if (!response.ok) throw new Error(`The shop answered ${response.status}.`);
      const { workflow, steps } = await response.json();
      show(part, workflow, steps);
      open = OPEN.has(workflow.status);
    } catch (error) {
      // The server may be restarting: the order is safe, so keep asking.
      part("error").textContent = `No news just now: ${error.message}`;
      part("error").hidden = false;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function show(part, workflow, steps) {
  part("status").textContent = workflow.status.replaceAll("_", " ");
  part("status").dataset.state = workflow.status;
  part("error").hidden = !workflow.error_type;
  part("error").textContent = workflow.error_message || workflow.error_type || "";
  part("steps").replaceChildren(...steps.map(stepRow));
}

function stepRow(step) {
  const row = document.createElement("li");
  row.dataset.state = step.state;
  row.append(cell("mark", MARKS[step.state]), cell("title", step.title), cell("time", duration(step)));
  return row;
}

function cell(name, text) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = text;
  return span;
}

function duration({ started, ended }) {
  return ended ? `${((new Date(ended) - new Date(started)) / 1000).toFixed(2)} s` : "";
}
