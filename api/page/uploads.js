// Pictures that are dropped on the page, pasted into it or picked.

/** Calls `take(file, note)` for each picture and `complain(message)` for what holds none. */
export function acceptUploads(picker, take, complain) {
  const accept = (files, source) => {
    const file = [...files].find((one) => one.type.startsWith("image/")) ?? files[0];
    take(file, files.length > 1 ? `The first of ${files.length} ${source} pictures.` : "");
  };

  picker.addEventListener("change", () => {
    if (picker.files.length) accept(picker.files, "chosen");
    picker.value = ""; // or the same file could not be chosen again
  });

  window.addEventListener("paste", (event) => {
    if (event.target.closest?.("input:not([type=range],[type=radio],[type=file]), textarea")) return;
    const { files } = event.clipboardData;
    if (files.length) accept(files, "pasted");
    else complain("There is no picture on the clipboard. Copy the picture itself, not its address.");
  });

  let depth = 0; // of entered elements: enter and leave come for each child
  const dragging = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  const carries = (event) => event.dataTransfer?.types.some((type) => type === "Files" || type === "text/uri-list");
  window.addEventListener("dragenter", (event) => carries(event) && dragging(+1));
  window.addEventListener("dragleave", (event) => carries(event) && dragging(-1));
  window.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  window.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    dragging(-depth);
    const { files } = event.dataTransfer;
    if (files.length) accept(files, "dropped");
    else complain("That was a link, not a picture. Save the picture first, then drop the file.");
  });
}
