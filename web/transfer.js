// Files to the server, and to the user's disk.
import { authorization, errorOf } from "./api.js";

/**
 * Upload a file and return its URL, for an input.
 * @param {File} file
 * @param {(share: number) => void} onProgress called with how much of it was sent, from 0 to 1
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
export function upload(file, onProgress, signal) {
  const form = new FormData();
  form.append("content", file, file.name);
  const request = new XMLHttpRequest(); // fetch doesn't report how much was sent
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    request.open("POST", "/v1/files");
    request.setRequestHeader("Authorization", authorization());
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onProgress(loaded / total);
    request.onload = () => {
      const { status, response } = request;
      if (status === 201) resolve(response.urls.get);
      else reject(errorOf(status, response ?? {}));
    };
    request.onerror = () => reject(new TypeError("the network failed")); // as fetch does
    signal.addEventListener("abort", () => {
      request.abort();
      reject(signal.reason);
    });
    request.send(form);
  });
}

/**
 * Let the browser save a file.
 * @param {Blob} blob
 * @param {string} name
 */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
