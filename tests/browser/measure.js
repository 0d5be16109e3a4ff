/* Measures a page in a browser and tells its parent what is wrong with it, and what was seen: nothing beyond the window's
 * edge but in boxes that scroll, labels apart, text large enough and in contrast with its ground, tooltips that come. */
(function () {
  "use strict";
  var wrong = [], wide = document.documentElement.clientWidth;
  var say = function (text) { if (wrong.length < 20) wrong.push(text); };
  var name = function (e) { return e.tagName + "." + (e.getAttribute("class") || "") + " '" + (e.textContent || "").slice(0, 30) + "'"; };
  document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  if (document.documentElement.scrollWidth > wide) say("page is " + document.documentElement.scrollWidth + " wide in " + wide);
  document.querySelectorAll("body *").forEach(function (e) {
    var box = e.getBoundingClientRect();
    if (box.width > 0 && (box.right > wide + 1 || box.left < -1) && !e.closest(".scroll")) say("beyond the edge: " + name(e) + " " + Math.round(box.right));
  });
  var least = 99;
  document.querySelectorAll("svg text").forEach(function (t) {
    var svg = t.ownerSVGElement, size = parseFloat(getComputedStyle(t).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width;
    if (svg.clientWidth) least = Math.min(least, size);
  });
  if (least < 9.5) say("text of a chart is " + least.toFixed(1) + " pixels high");
  document.querySelectorAll("figure.chart svg").forEach(function (svg) {
    var texts = [].slice.call(svg.querySelectorAll("text")).map(function (t) { return [t, t.getBoundingClientRect()]; });
    texts.forEach(function (a, i) {
      texts.slice(i + 1).forEach(function (b) {
        var x = Math.min(a[1].right, b[1].right) - Math.max(a[1].left, b[1].left);
        var y = Math.min(a[1].bottom, b[1].bottom) - Math.max(a[1].top, b[1].top);
        if (x > 1 && y > 5) say("over each other: " + name(a[0]) + " and " + name(b[0]));
      });
    });
  });
  var channel = function (v) { v /= 255; return v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); };
  var light = function (c) { return 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]); };
  var numbers = function (text) { return (text.match(/[\d.]+/g) || [0, 0, 0]).map(Number); };
  var ground = function (e) {
    var over = [];
    for (; e; e = e.parentElement) {
      var c = numbers(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) over.push(c);
      if (c.length < 4 || c[3] === 1) break;
    }
    return over.reduceRight(function (below, c) {
      var a = c.length < 4 ? 1 : c[3];
      return [0, 1, 2].map(function (i) { return a * c[i] + (1 - a) * below[i]; });
    }, [255, 255, 255]);
  };
  var worst = 99;
  document.querySelectorAll("body *").forEach(function (e) {
    if (![].some.call(e.childNodes, function (n) { return n.nodeType === 3 && n.textContent.trim(); })) return;
    var style = getComputedStyle(e), ink = numbers(e.ownerSVGElement ? style.fill : style.color);
    var a = light(ink), b = light(ground(e.ownerSVGElement || e)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (/^(title|desc|script)$/i.test(e.tagName)) return;
    worst = Math.min(worst, ratio);
    if (ratio < 4.4) say("contrast " + ratio.toFixed(1) + ": " + name(e));
  });
  var tips = 0, plots = document.querySelectorAll("svg[data-plot]");
  plots.forEach(function (svg) {
    var box = svg.getBoundingClientRect();
    svg.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + 0.4 * box.width, clientY: box.top + 0.5 * box.height }));
    var tip = svg.closest("figure").querySelector(".tip");
    if (tip && !tip.hidden && tip.textContent) tips++;
    svg.dispatchEvent(new PointerEvent("pointerleave"));
  });
  if (tips < plots.length) say(plots.length - tips + " charts without a tooltip");
  document.querySelectorAll("figure svg").forEach(function (svg) { if (!svg.querySelector("title") || !svg.querySelector("desc")) say("a chart without title and description"); });
  document.querySelectorAll("img").forEach(function (img) { if (!img.alt) say("a picture without a text"); });
  parent.postMessage({
    wrong: wrong.join("; "),
    seen: plots.length + " charts, " + document.querySelectorAll("img").length + " pictures, width " + wide + ", dark " +
      matchMedia("(prefers-color-scheme: dark)").matches + ", least contrast " + worst.toFixed(1) + ", least text " + least.toFixed(1)
  }, "*");
})();
