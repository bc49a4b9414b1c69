// Runs within a page of the test and tells its frame's parent what it sees.
addEventListener("load", async () => {
	const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
	const rgb = (hex) => hex.match(/[0-9a-f]/gi).length === 3
		? hex.match(/[0-9a-f]/gi).map((x) => parseInt(x + x, 16)) : hex.match(/[0-9a-f]{2}/gi).map((x) => parseInt(x, 16));
	const pause = (ms) => new Promise((done) => setTimeout(done, ms));
	const luminance = (c) => {
		const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };

	// The pixels of a canvas that are of a colour, and how many colours it has.
	const look = (canvas, wanted) => {
		// Reading the original often makes the browser complain.
		const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height }).getContext("2d", { willReadFrequently: true });
		copy.drawImage(canvas, 0, 0);
		const p = copy.getImageData(0, 0, canvas.width, canvas.height).data;
		const colours = new Set(), hits = wanted.map(() => 0);
		for (let i = 0; i < p.length; i += 4) {
			if (p[i + 3] < 200) continue;
			colours.add(p[i] << 16 | p[i + 1] << 8 | p[i + 2]);
			wanted.forEach((c, k) => { if (Math.abs(c[0] - p[i]) + Math.abs(c[1] - p[i + 1]) + Math.abs(c[2] - p[i + 2]) < 12) hits[k]++; });
		}
		return { colours: colours.size, hits };
	};
	const charts = () => [...document.querySelectorAll("figure.chart")].map((f) => {
		const canvas = f.querySelector("canvas");
		if (!canvas) return { title: f.querySelector("figcaption").textContent, label: "", colours: 0, hits: [] };
		const series = f.dataset.kind === "heat" ? ["--heat3"] : [...f.querySelectorAll(".legend li")].map((_, i) => "--s" + i);
		return { title: f.querySelector("figcaption").textContent, label: canvas.getAttribute("aria-label") || "",
			width: canvas.getBoundingClientRect().width, room: f.getBoundingClientRect().width, ...look(canvas, series.map((v) => rgb(css(v)))) };
	});
	const state = () => ({
		width: innerWidth, wide: document.documentElement.scrollWidth, background: luminance(rgb(css("--bg"))),
		text: Math.min(...["--ink", "--soft", "--link", "--kept", "--missed", "--open", "--none"].flatMap((v) => ["--bg", "--card"].map((b) => contrast(rgb(css(v)), rgb(css(b)))))),
		lines: Math.min(...[0, 1, 2, 3, 4, 5].map((i) => contrast(rgb(css("--s" + i)), rgb(css("--card"))))),
		charts: charts(),
	});

	// A link in a table opens its case, and a command can be taken along.
	const link = document.querySelector(".baselines th a"), target = document.getElementById(link.hash.slice(1)), closed = !target.open;
	link.click();
	await pause(100);
	const opened = closed && target.open;
	// The clipboard is ours, for the real one answers in its own time.
	const copy = target.querySelector(".copy"), command = target.querySelector(".command code");
	let board = "", refuse = false;
	Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { if (refuse) throw new Error("refused"); board = text; } } });
	copy.click();
	await pause(100);
	let taken = board === command.textContent && copy.textContent === "Copied" && getSelection().anchorNode !== command;
	refuse = true;
	copy.click();
	await pause(100);
	taken = taken && copy.textContent === "Selected" && getSelection().anchorNode === command;

	const drawn = phantomDrawAll();
	await pause(300);
	for (const d of document.querySelectorAll(".astable")) d.open = true;
	await pause(300);
	const first = state(), tables = [...document.querySelectorAll(".astable")].map((d) => d.querySelectorAll("tbody tr").length);
	const button = document.getElementById("theme"), switched = [];
	for (let i = 0; i < 3; i++) {
		button.click();
		await pause(200);
		switched.push({ name: button.textContent, ...state() });
	}
	parent.postMessage(JSON.stringify({ opened, taken, drawn, tables, first, switched }), "*");
});
