// The page: a picture, or the camera, through the network, and the classes shown.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { squash } from "./squash.js";

const SHOWN = 5; // Classes.
const RUNTIME = "npm/@litertjs/core/wasm/";
const CAMERA = { video: { facingMode: "environment" } };

const part = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1 });

part("unserved").remove();
try {
  const about = await json("model.json");
  describe(about, await pushed());
  const network = await loaded(about);
  listen(about, network);
  say("Choose a picture to see its class.");
} catch (error) {
  complain(`The model cannot be run: ${error.message}`);
}

/** Returns the answer to a request of a file; asked anew, as an export may have been replaced. */
async function fetched(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`${path} is not there (${answer.status}).`);
  return answer;
}

async function json(path) {
  const answer = await fetched(path);
  return answer.json().catch((error) => {
    throw new Error(`${path} is damaged (${error.message}).`);
  });
}

/** Returns the manifest of the pushed version that this folder lies in; null if it was moved. */
async function pushed() {
  const answer = await fetch("../manifest.json");
  return answer.ok ? answer.json() : null;
}

function describe(about, manifest) {
  const name = manifest ? manifest.name : about.network;
  document.title = `Try ${name}`;
  part("name").textContent = name;
  part("facts").textContent = [
    ...(manifest ? [`version ${manifest.version}`] : []),
    `${about.network} at ${about.size} × ${about.size} pixels`,
    `${about.classes.length} classes`,
    `${(about.bytes / 1e6).toFixed(1)} MB`,
  ].join(" · ");
  part("runtime").textContent = about.runtime;
}

/** Returns a function from float32 [size, size, 3] to the probabilities of the classes. */
async function loaded(about) {
  const answer = await fetched("model.tflite");
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (bytes.length !== about.bytes) {
    const [found, expected] = [bytes.length, about.bytes].map((count) => count.toLocaleString("en"));
    throw new Error(`model.tflite has ${found} bytes, expected ${expected}.`);
  }
  await loadLiteRt(RUNTIME).catch((error) => {
    // A script that cannot be fetched fails with an event, which says nothing.
    throw error instanceof Error ? error : new Error(`LiteRT.js is not there, in ${RUNTIME}.`);
  });
  const model = await loadAndCompile(bytes, { accelerator: "wasm" });
  const run = async (pixels) => {
    const image = new Tensor(pixels, [1, about.size, about.size, 3]);
    const served = await model.run({ [about.input]: image });
    const found = await served[about.output].data();
    for (const tensor of [image, ...Object.values(served)]) tensor.delete();
    return found;
  };
  // Memory is laid out in the first run, which would otherwise be the first picture's.
  const found = await run(new Float32Array(about.size * about.size * 3));
  if (found.length !== about.classes.length) {
    throw new Error(`it has ${found.length} outputs for ${about.classes.length} classes.`);
  }
  return run;
}

function listen(about, network) {
  let turn = 0; // Of what is shown; who finds another turn when done was overtaken.
  let stream = null;

  const classify = async (source, width, height) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    context.fillStyle = "white"; // What is transparent was laid on white for training, too.
    context.fillRect(0, 0, width, height);
    context.drawImage(source, 0, 0);
    const pixels = context.getImageData(0, 0, width, height).data;
    const start = performance.now();
    const squashed = squash(pixels, width, height, about.size);
    const between = performance.now();
    const probabilities = await network(squashed);
    const end = performance.now();
    return { probabilities, resizing: between - start, running: end - between };
  };

  const stopCamera = () => {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    part("video").srcObject = null;
    part("camera").textContent = "Use the camera";
  };

  const openPicture = async (file) => {
    const mine = ++turn;
    stopCamera();
    say("Looking…");
    try {
      // As the training data were decoded: upright, colours as stored.
      const bitmap = await createImageBitmap(file, {
        imageOrientation: "from-image",
        colorSpaceConversion: "none",
        premultiplyAlpha: "none",
      }).catch(() => {
        throw new Error(`${file.name} is not a picture that this browser can read.`);
      });
      const found = await classify(bitmap, bitmap.width, bitmap.height);
      bitmap.close();
      if (mine !== turn) return;
      URL.revokeObjectURL(part("picture").src);
      part("picture").src = URL.createObjectURL(file);
      stage("picture");
      show(about.classes, found);
      const best = found.probabilities.indexOf(Math.max(...found.probabilities));
      say(`Most likely ${about.classes[best]}, ${percent.format(found.probabilities[best])}.`);
    } catch (error) {
      if (mine === turn) {
        stage(null);
        complain(error.message);
      }
    }
  };

  const openCamera = async () => {
    const mine = ++turn;
    try {
      if (!navigator.mediaDevices) {
        throw new Error("browsers allow it on localhost and over https only.");
      }
      const opened = await navigator.mediaDevices.getUserMedia(CAMERA);
      if (mine !== turn) return opened.getTracks().forEach((track) => track.stop());
      stream = opened;
      part("camera").textContent = "Stop the camera";
      const video = part("video");
      video.srcObject = stream;
      await video.play();
      stage("video");
      say("The camera is on.");
      while (mine === turn) {
        if (!opened.active) throw new Error("it has stopped.");
        const found = await classify(video, video.videoWidth, video.videoHeight);
        if (mine === turn) show(about.classes, found);
        await new Promise(requestAnimationFrame);
      }
    } catch (error) {
      if (mine !== turn) return;
      stopCamera();
      stage(null);
      complain(`The camera cannot be used: ${error.message}`);
    }
  };

  part("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) openPicture(file);
    event.target.value = ""; // So that the same file can be chosen again.
  });
  part("camera").addEventListener("click", () => {
    if (!stream) return openCamera();
    turn++;
    stopCamera();
    stage(null);
    say("The camera is off.");
  });
  // On the whole page, as a picture dropped beside the stage would replace the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    part("stage").classList.add("over");
  });
  addEventListener("dragleave", () => part("stage").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    part("stage").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) openPicture(file);
    else complain("What was dropped is no file; save the picture and drop the file.");
  });
  part("file").disabled = part("camera").disabled = false;
}

/** Shows the picture, the video, or, with null, the empty stage and no result. */
function stage(shown) {
  for (const id of ["picture", "video"]) part(id).hidden = id !== shown;
  part("hint").hidden = shown !== null;
  part("stage").classList.toggle("full", shown !== null);
  if (shown === null) part("results").hidden = part("times").hidden = true;
}

function show(classes, { probabilities, resizing, running }) {
  const order = Array.from(classes.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  const list = part("results");
  const best = order.slice(0, SHOWN);
  while (list.children.length < best.length) list.append(row());
  best.forEach((place, rank) => {
    const [name, share, bar] = list.children[rank].children;
    const probability = probabilities[place];
    name.textContent = classes[place];
    share.value = probability;
    share.textContent = percent.format(probability);
    bar.style.setProperty("--share", probability);
  });
  part("total").textContent = milliseconds(resizing + running);
  part("resizing").textContent = milliseconds(resizing);
  part("running").textContent = milliseconds(running);
  list.hidden = part("times").hidden = false;
}

function row() {
  const made = document.createElement("li");
  for (const [tag, kind] of [["span", "class"], ["data", ""], ["div", "bar"]]) {
    made.append(Object.assign(document.createElement(tag), { className: kind }));
  }
  return made;
}

function milliseconds(time) {
  return `${time.toFixed(time < 10 ? 1 : 0)} ms`;
}

function say(text) {
  part("status").classList.remove("bad");
  part("status").textContent = text;
}

function complain(text) {
  part("status").classList.add("bad");
  part("status").textContent = text;
}
