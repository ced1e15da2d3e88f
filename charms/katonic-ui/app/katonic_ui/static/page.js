// What HTML alone cannot do: the dialog of a question, and an upload that says how far it is.
"use strict";

const dialog = document.getElementById("dialog");

document.addEventListener("htmx:afterSwap", (event) => {
  const target = event.detail.target;
  if (target === dialog) dialog.showModal();
  if (target.id === "notices") target.scrollIntoView({ block: "nearest" });
});

document.addEventListener("click", (event) => {
  if (dialog.open && (event.target === dialog || event.target.closest("[data-close]"))) {
    event.preventDefault();
    dialog.close();
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.upload) return;
  event.preventDefault();
  upload(form);
});

async function upload(form) {
  const button = form.querySelector("button");
  const files = [...form.querySelector("input[type=file]").files];
  const folder = form.querySelector("input[type=text]").value.split("/").filter(Boolean);
  const base = form.dataset.upload + folder.map((part) => encodeURIComponent(part) + "/").join("");
  button.disabled = true;
  let done = 0;
  for (const file of files) {
    if (await send(base + encodeURIComponent(file.name), file, line(form, file.name))) done += 1;
  }
  button.disabled = false;
  if (done === files.length) form.reset();
  htmx.trigger("#list", "uploaded");
}

function line(form, name) {
  const item = document.createElement("li");
  const label = document.createElement("span");
  const bar = document.createElement("progress");
  label.textContent = name;
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", "Upload of " + name);
  item.append(label, bar);
  form.querySelector(".progress").append(item);
  return {
    at: (part) => { bar.value = part; },
    end: (text, good) => {
      bar.remove();
      item.className = good ? "good" : "bad";
      label.textContent = name + ": " + text;
    },
  };
}

function send(url, file, shown) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const end = (text, good) => { shown.end(text, good); resolve(good); };
    request.open("PUT", url);
    request.setRequestHeader("X-CSRF-Token", JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRF-Token"]);
    request.setRequestHeader("HX-Request", "true");
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) shown.at(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      const good = request.status < 300;
      const said = new DOMParser().parseFromString(request.responseText, "text/html").body.textContent;
      end(good ? "uploaded" : said.trim() || "not uploaded", good);
    });
    request.addEventListener("error", () => end("the connection broke, try again", false));
    request.send(file);
  });
}
