// The charts of a report. Everything a table can say is in the page already;
// this draws what is behind the numbers, when it comes into view.
(() => {
	"use strict";
	const read = (id) => JSON.parse(document.getElementById(id).textContent);
	const data = read("data"), overlays = read("overlays");
	const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
	const make = (tag, props, ...children) => {
		const e = Object.assign(document.createElement(tag), props);
		e.append(...children);
		return e;
	};

	// Numbers, as the tables print them.
	const digits = (v) => {
		const a = Math.abs(v);
		if (v === 0) return "0";
		return a >= 99.95 ? v.toFixed(0) : a >= 9.995 ? v.toFixed(1) : a >= 0.9995 ? v.toFixed(2) : String(+v.toPrecision(3));
	};
	const short = (v) => String(+v.toPrecision(3));
	const scaled = (v, steps, text) => {
		for (const [size, name] of steps) if (Math.abs(v) >= size * 0.9995) return text(v / size) + "\u202f" + name;
		return text(v) + (steps.base ? "\u202f" + steps.base : "");
	};
	const times = Object.assign([[1e9, "s"], [1e6, "ms"], [1e3, "µs"]], { base: "ns" });
	const metric = (unit) => Object.assign([[1e9, "G" + unit], [1e6, "M" + unit], [1e3, "k" + unit]], { base: unit });
	const format = (v, unit, text = digits) => {
		if (v == null) return "–";
		if (unit === "ns") return scaled(v, times, text);
		if (unit === "cores") return text(v) + "\u202fcores";
		if (unit === "B" || unit === "B/s") return scaled(v, metric(unit), text);
		return scaled(v, metric("/s"), text);
	};
	const percent = (nines) => {
		if (nines < 0.3) return (100 * (1 - 10 ** -nines)).toFixed(0) + " %";
		const places = Math.max(0, Math.ceil(nines) - 2);
		return (100 * (1 - 10 ** -nines)).toFixed(Number.isInteger(+nines.toFixed(6)) || nines < 0.31 ? places : places + 1) + " %";
	};

	const dashes = [[], [7, 3], [2, 3], [10, 3, 2, 3], [4, 2], [12, 3, 2, 3, 2, 3]];
	const stroke = (i) => css("--s" + (i % 6));
	const font = (size) => size + "px system-ui, -apple-system, sans-serif";

	// Marks of a log axis: ones, and twos and fives where there is room.
	const logMarks = (min, max) => {
		const decades = Math.log10(max / min), list = [];
		const steps = decades > 3.2 ? [1] : decades > 1.6 ? [1, 3] : [1, 2, 5];
		for (let e = Math.floor(Math.log10(min)); e <= Math.ceil(Math.log10(max)); e++)
			for (const s of steps) { const v = s * 10 ** e; if (v >= min && v <= max) list.push(v); }
		return list;
	};
	const axis = (extra) => ({
		stroke: () => css("--soft"), font: font(11), labelFont: font(11), labelSize: 18,
		grid: { stroke: () => css("--grid"), width: 1 }, ticks: { stroke: () => css("--grid"), width: 1, size: 4 }, ...extra,
	});

	// A legend names lines by colour and dash, and shows the values under the pointer.
	const legend = (lines) => make("ul", { className: "legend" }, ...lines.map((l, i) => {
		const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
		const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
		for (const [k, v] of Object.entries({ x1: 0, x2: 24, y1: 4, y2: 4, "stroke-width": 2.5, "stroke-dasharray": dashes[i % 6].join(" ") })) line.setAttribute(k, v);
		line.style.stroke = "var(--s" + (i % 6) + ")";
		svg.append(line);
		svg.setAttribute("aria-hidden", "true");
		return make("li", {}, svg, l.name + " ", make("b"));
	}));

	// The table beside a chart is built when somebody opens it.
	const table = (box, heads, rows) => {
		const d = make("details", { className: "astable" }, make("summary", { textContent: "As a table" }));
		d.addEventListener("toggle", () => {
			if (!d.open || d.children.length > 1) return;
			const cell = (tag, text, i) => make(tag, { textContent: text, className: i ? "n" : "" });
			d.append(make("div", { className: "scroll", tabIndex: 0 }, make("table", {},
				make("thead", {}, make("tr", {}, ...heads.map((h, i) => cell("th", h, i)))),
				make("tbody", {}, ...rows().map((r) => make("tr", {}, ...r.map((c, i) => cell(i ? "td" : "th", c, i))))))));
		});
		box.append(d);
	};

	// lines draws a chart with uPlot. x is {values, label, mark, range, marks}, y {unit, log, label}.
	const lines = (plot, x, y, list, height) => {
		const values = list.flatMap((l) => l.values).filter((v) => v != null && (!y.log || v > 0));
		let low = Math.min(...values), high = Math.max(...values);
		if (y.log) { low /= 1.25; high *= 1.25; } else { low = 0; high = high > 0 ? high * 1.08 : 1; }
		const key = legend(list);
		const chart = new uPlot({
			width: Math.max(plot.clientWidth, 200), height, pxAlign: 0, legend: { show: false },
			padding: [10, 24, 0, 0],
			cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false } },
			scales: { x: { time: false, range: x.range ? () => x.range : undefined }, y: { distr: y.log ? 3 : 1, log: 10, range: () => [low, high] } },
			axes: [
				axis({ label: x.label, size: 30, values: (u, s) => s.map(x.mark), ...(x.marks ? { splits: () => x.marks, filter: (u, s) => s } : { space: 60 }) }),
				axis({ label: y.label, size: 62, values: (u, s) => s.map((v) => format(v, y.unit, short)), ...(y.log ? { splits: (u, i, a, b) => logMarks(a, b), filter: (u, s) => s } : { space: 36 }) }),
			],
			series: [{}, ...list.map((l, i) => ({ label: l.name, stroke: () => stroke(i), dash: dashes[i % 6], width: 2, points: { show: l.values.filter((v) => v != null).length < 12, size: 5 } }))],
			hooks: { setCursor: [(u) => list.forEach((l, i) => {
				const v = u.cursor.idx == null ? null : u.data[i + 1][u.cursor.idx];
				key.children[i].querySelector("b").textContent = u.cursor.idx == null ? "" : format(v, y.unit) + (i === 0 ? " at " + x.mark(u.data[0][u.cursor.idx]) : "");
			})] },
		}, [x.values, ...list.map((l) => y.log ? l.values.map((v) => v === undefined || v > 0 ? v : null) : l.values)], plot);
		plot.append(key);
		chart.axisTitles = [y.label, x.label];
		return chart;
	};

	const curveAxis = (list) => {
		const max = Math.max(...list.flatMap((c) => c.nines));
		return { label: "percentile of operations", range: [0, max], mark: percent, marks: [0.30103, 1, 2, 3, 4, 5, 6].filter((v) => v <= max + 1e-9) };
	};
	// Curves end where their own samples do, so they share points up to there.
	const curves = (plot, list, height) => {
		const all = [...new Set(list.flatMap((l) => l.curve.nines))].sort((a, b) => a - b);
		const rows = list.map((l) => { const m = new Map(l.curve.nines.map((n, i) => [n, l.curve.ns[i]])); return { name: l.name, values: all.map((n) => m.has(n) ? m.get(n) : undefined) }; });
		// A point that one curve alone has must not cut the others: undefined is
		// a gap to be bridged, null one to be shown.
		rows.forEach((r, i) => { const end = Math.max(...list[i].curve.nines); r.values = r.values.map((v, k) => all[k] > end ? null : v); });
		const x = { ...curveAxis(list.map((l) => l.curve)), values: all };
		const chart = lines(plot, x, { unit: "ns", log: true, label: "latency, log axis" }, rows, height);
		table(plot, ["Percentile", ...rows.map((r) => r.name)], () => all.map((n, i) => [percent(n), ...rows.map((r) => r.values[i] === undefined ? "" : format(r.values[i], "ns"))]));
		return chart;
	};
	const seconds = (v) => v == null ? "" : short(v) + "\u202fs";

	const panel = (plot, p) => {
		const x = { values: p.ends_s, label: "time since the start", mark: seconds, range: [0, p.ends_s[p.ends_s.length - 1]] };
		const label = (p.title === "CPU" ? p.title : p.title.toLowerCase()) + (p.log ? ", log axis" : p.unit === "cores" ? " in cores" : "");
		const chart = lines(plot, x, { unit: p.unit, log: p.log, label }, p.lines, 220);
		table(plot, ["Until", ...p.lines.map((l) => l.name)], () => p.ends_s.map((e, i) => [seconds(e), ...p.lines.map((l) => format(l.values[i], p.unit))]));
		return chart;
	};

	// The heat map is a canvas of our own: a column an interval, a row a latency.
	const heat = (plot, h) => {
		const canvas = make("canvas", { className: "heat" }), height = 236, left = 80, bottom = 44, top = 8, right = 14;
		plot.append(canvas);
		const rows = h.edges_ns.length - 1, end = h.ends_s[h.ends_s.length - 1];
		const totals = h.counts.map((c) => c.reduce((a, b) => a + b, 0));
		const largest = Math.max(...h.counts.map((c, i) => totals[i] ? Math.max(...c) / totals[i] : 0));
		const mix = (share) => {
			const stops = [0, 1, 2, 3].map((i) => css("--heat" + i).match(/\w\w/g).map((x) => parseInt(x, 16)));
			const at = Math.min(2.999, 3 * Math.sqrt(share / largest)), i = Math.floor(at), f = at - i;
			return "rgb(" + stops[i].map((v, k) => Math.round(v + (stops[i + 1][k] - v) * f)).join() + ")";
		};
		const draw = () => {
			const width = Math.max(plot.clientWidth, 200), dpr = devicePixelRatio || 1, c = canvas.getContext("2d");
			canvas.width = width * dpr; canvas.height = height * dpr; canvas.style.height = height + "px";
			c.scale(dpr, dpr);
			const w = width - left - right, t = height - top - bottom;
			c.fillStyle = css("--heat0"); c.fillRect(left, top, w, t);
			let last = 0;
			h.counts.forEach((column, i) => {
				const x0 = left + w * last / end, x1 = left + w * h.ends_s[i] / end;
				last = h.ends_s[i];
				column.forEach((n, k) => {
					if (!n) return;
					c.fillStyle = mix(n / totals[i]);
					c.fillRect(x0, top + t * (rows - 1 - k) / rows, Math.max(x1 - x0, 1) + 0.4, t / rows + 0.4);
				});
			});
			c.fillStyle = css("--soft"); c.font = font(11);
			const low = Math.log10(h.edges_ns[0]), high = Math.log10(h.edges_ns[rows]);
			c.textAlign = "right"; c.textBaseline = "middle";
			for (const v of logMarks(h.edges_ns[0], h.edges_ns[rows])) c.fillText(format(v, "ns", short), left - 6, Math.max(top + 5, top + t - t * (Math.log10(v) - low) / (high - low)));
			c.textAlign = "center"; c.textBaseline = "top";
			const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 7200].find((s) => end / s <= w / 60) || end;
			const fine = end < 0.6 ? end / 4 : step;
			for (let v = 0; v <= end + 1e-9; v += fine) c.fillText(seconds(v), left + w * v / end, top + t + 6);
			c.fillText("time since the start", left + w / 2, height - 16);
			c.save(); c.translate(9, top + t / 2); c.rotate(-Math.PI / 2); c.textBaseline = "middle"; c.fillText("latency, log axis", 0, 0); c.restore();
		};
		draw();
		const ramp = make("span", { ariaHidden: "true" });
		ramp.style.cssText = "display:inline-block;width:90px;height:8px;vertical-align:0;margin:0 .4rem;background:linear-gradient(90deg,var(--heat0),var(--heat1) 11.1%,var(--heat2) 44.4%,var(--heat3))"; // as mix has it, by the root
		plot.append(make("ul", { className: "legend" }, make("li", {}, "share of an interval's operations: 0", ramp, (100 * largest).toFixed(0) + "\u202f%")));
		table(plot, ["Until", ...h.edges_ns.slice(1).map((e) => "below " + format(e, "ns", short))], () => h.counts.map((c, i) => [seconds(h.ends_s[i]), ...c.map(String)]));
		return { setSize: draw, redraw: draw, axisTitles: ["latency, log axis", "time since the start"] };
	};

	const drawn = new Map(); // figure to chart
	const draw = (figure) => {
		if (drawn.has(figure)) return;
		const plot = figure.querySelector(".plot"), kind = figure.dataset.kind;
		const of = () => data[figure.closest("details").id];
		let chart;
		if (figure.dataset.overlay) chart = curves(plot, overlays[figure.dataset.overlay].map((o) => ({ name: o.name, curve: data[o.case].curve })), 280);
		else if (kind === "curve") chart = curves(plot, [{ name: "all samples", curve: of().curve }], 236);
		else if (kind === "heat") chart = heat(plot, of().heat);
		else chart = panel(plot, of().series[+figure.dataset.panel]);
		const canvas = plot.querySelector("canvas");
		canvas.setAttribute("role", "img");
		canvas.setAttribute("aria-label", figure.querySelector("figcaption").textContent + ": " + chart.axisTitles.join(" by ") + "; the same numbers stand in the table below the chart");
		drawn.set(figure, chart);
		sizes.observe(plot);
	};
	const sizes = new ResizeObserver((list) => {
		for (const { target } of list) {
			const figure = target.closest("figure"), chart = drawn.get(figure), width = target.clientWidth;
			if (!chart || width < 1 || chart.lastWidth === width) continue;
			if (chart.lastWidth) chart.setSize({ width: Math.max(width, 200), height: chart.height });
			chart.lastWidth = width;
		}
	});
	const seen = new IntersectionObserver((list) => {
		for (const e of list) if (e.isIntersecting) { seen.unobserve(e.target); draw(e.target); }
	}, { rootMargin: "400px" });
	for (const f of document.querySelectorAll("figure.chart")) seen.observe(f);

	// A link to a case opens it.
	const openTarget = () => {
		const e = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
		if (e && e.matches("details")) { e.open = true; e.scrollIntoView(); e.querySelector("summary").focus({ preventScroll: true }); }
	};
	addEventListener("hashchange", openTarget);
	openTarget();

	for (const b of document.querySelectorAll(".copy")) b.addEventListener("click", async () => {
		const code = b.parentElement.querySelector("code");
		try { await navigator.clipboard.writeText(code.textContent); b.textContent = "Copied"; } catch {
			// Where a page from a file may not write, the text is selected instead.
			getSelection().selectAllChildren(code);
			b.textContent = "Selected";
		}
		setTimeout(() => { b.textContent = "Copy"; }, 1500);
	});

	// Light, dark, or as the system says.
	const root = document.documentElement, themes = ["", "light", "dark"], names = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
	const redraw = () => { for (const c of drawn.values()) c.redraw(false, true); };
	const theme = (t) => {
		if (t) root.dataset.theme = t; else delete root.dataset.theme;
		button.textContent = names[t];
		redraw();
	};
	const button = document.getElementById("theme");
	button.hidden = false;
	theme(root.dataset.theme || "");
	button.addEventListener("click", () => {
		const t = themes[(themes.indexOf(root.dataset.theme || "") + 1) % 3];
		try { localStorage.setItem("phantom-theme", t); } catch { /* a page from a file may not keep it */ }
		theme(t);
	});
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
	let before = "";
	addEventListener("beforeprint", () => { before = root.dataset.theme || ""; theme("light"); });
	addEventListener("afterprint", () => theme(before));

	// For whoever wants all charts at once, such as a test.
	window.phantomDrawAll = () => {
		for (const d of document.querySelectorAll("details.case")) d.open = true;
		for (const f of document.querySelectorAll("figure.chart")) draw(f);
		return drawn.size;
	};
})();
