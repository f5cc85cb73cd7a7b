// The input of pictures: a file that is chosen or dropped, or the camera.

import { drawn, where } from "./heat.js";
import { squash } from "./squash.js";
import { complain, part, say } from "./status.js";

const SIDE = 8; // Places across and down of which the picture's heat consists.
const PAUSE = 1000; // Milliseconds between two sentences of the camera, as they are read aloud.
const CAMERA = { video: { facingMode: "environment" } };

// One for all pictures, as WebKit frees the memory of a canvas late.
const canvas = document.createElement("canvas");
const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });

export const controls = "picture-input";
export const ask = "Choose a picture";
export const words = { whole: "picture", preparing: "resizing" };
export const fact = ({ size }) => `at ${size} × ${size} pixels`;

/** Lets the controls work; `show` gets a `source` of the size and the layer over the picture. */
export function open({ size, tensors }, run, show, clear) {
  const [name] = Object.keys(tensors);
  let turn = 0; // Counts what was chosen; an answer of an older turn is dropped.
  let stream = null;

  const answered = async (source, width, height) => {
    const start = performance.now();
    const squashed = squash(reader(source, width), width, height, size);
    const between = performance.now();
    const served = await run({ [name]: squashed });
    const end = performance.now();
    return { served, squashed, preparing: between - start, running: end - between };
  };

  /** Shows an answer and returns its sentence. */
  const shown = (found, width, height, parts) => {
    part("frame").style.setProperty("--ratio", width / height);
    return show(found, { width, height, layer: part("layer"), parts });
  };

  /** Returns the parts of a picture, windows of 2 x 2 places, as `offer` of why.js wants them. */
  const parts = ({ squashed }) => ({
    count: (SIDE - 1) ** 2,
    without: (each) => run({ [name]: covered(squashed, size, ...corner(each)) }),
    paint: (weights, label) => {
      const heat = new Array(SIDE ** 2).fill(0);
      const counts = new Array(SIDE ** 2).fill(0);
      weights.forEach((weight, each) => {
        const [row, column] = corner(each);
        for (const place of [0, 1, SIDE, SIDE + 1]) {
          heat[row * SIDE + column + place] += weight;
          counts[row * SIDE + column + place] += 1;
        }
      });
      const means = heat.map((sum, place) => sum / counts[place]);
      const heated = drawn(means, SIDE);
      heated.className = "heat";
      part("layer").replaceChildren(heated);
      if (Math.max(...means) <= 0) return `No place alone speaks for ${label}.`;
      return `What speaks for ${label} is ${where(means, SIDE)}.`;
    },
  });

  /** Shows the picture, the video, or, with null, the empty stage and no answer. */
  const stage = (id) => {
    for (const each of ["picture", "video"]) part(each).hidden = each !== id;
    part("frame").hidden = id === null;
    part("hint").hidden = id !== null;
    part("stage").classList.toggle("full", id !== null);
    part("layer").replaceChildren();
    if (id === null) clear();
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
      const { width, height } = bitmap;
      const found = await answered(bitmap, width, height);
      bitmap.close();
      if (mine !== turn) return;
      URL.revokeObjectURL(part("picture").src);
      part("picture").src = URL.createObjectURL(file);
      stage("picture");
      say(shown(found, width, height, parts(found)));
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
      let said = "";
      let next = 0;
      while (mine === turn) {
        if (!opened.active) throw new Error("it has stopped.");
        const { videoWidth, videoHeight } = video;
        const found = await answered(video, videoWidth, videoHeight);
        const sentence = mine === turn ? shown(found, videoWidth, videoHeight) : said;
        if (sentence !== said && performance.now() >= next) {
          say(sentence);
          said = sentence;
          next = performance.now() + PAUSE;
        }
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
}

/** Returns a function from the first of rows and their count to their RGBA bytes in a source. */
function reader(source, width) {
  return (top, rows) => {
    if (canvas.width !== width || canvas.height !== rows) {
      [canvas.width, canvas.height] = [width, rows];
    }
    context.fillStyle = "white"; // What is transparent was laid on white for training, too.
    context.fillRect(0, 0, width, rows);
    context.drawImage(source, 0, -top);
    return context.getImageData(0, 0, width, rows).data;
  };
}

/** Returns the row and the column of a window's first place. */
function corner(each) {
  return [Math.floor(each / (SIDE - 1)), each % (SIDE - 1)];
}

/** Returns a picture, [size, size, 3], with its mean colour in a window. */
function covered(pixels, size, row, column) {
  const mean = [0, 0, 0];
  pixels.forEach((value, place) => { mean[place % 3] += value / (size * size); });
  const found = pixels.slice();
  const edge = (place) => Math.round((place * size) / SIDE);
  for (let y = edge(row); y < edge(row + 2); y++) {
    for (let x = edge(column); x < edge(column + 2); x++) found.set(mean, 3 * (y * size + x));
  }
  return found;
}
