// The line that tells how things stand, and the parts of the page.

export const part = (id) => document.getElementById(id);

export function say(text) {
  part("status").classList.remove("bad");
  part("status").textContent = text;
}

export function complain(text) {
  part("status").classList.add("bad");
  part("status").textContent = text;
}
