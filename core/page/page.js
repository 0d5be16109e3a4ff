(function(){"use strict";
var short=function(v){var a=Math.abs(v);return a>=1e4?Math.round(v).toLocaleString("en"):String(+v.toPrecision(4));};
document.querySelectorAll("svg[data-plot]").forEach(function(svg){
var figure=svg.closest("figure"),tip=document.createElement("div"),plot=svg.dataset.plot.split(" ").map(Number);
var cursor=svg.querySelector("line.axis").cloneNode();
var lines=[].map.call(svg.querySelectorAll("[data-x]"),function(l){return{name:l.dataset.name,
x:l.dataset.x.split(" ").map(Number),y:l.dataset.y.split(" ").map(Number)};});
tip.className="tip";tip.hidden=true;figure.appendChild(tip);cursor.setAttribute("class","cursor");
cursor.setAttribute("y1",plot[2]);cursor.setAttribute("y2",plot[3]);
var hide=function(){tip.hidden=true;cursor.remove();};
svg.addEventListener("pointerleave",hide);
svg.addEventListener("pointermove",function(e){
var p=new DOMPoint(e.clientX,e.clientY).matrixTransform(svg.getScreenCTM().inverse());
var at=plot[4]+(p.x-plot[0])/(plot[1]-plot[0])*(plot[5]-plot[4]),best=null,reach=(plot[5]-plot[4])*.04;
lines.forEach(function(l){l.x.forEach(function(x){if(best===null||Math.abs(x-at)<Math.abs(best-at))best=x;});});
if(best===null||p.x<plot[0]-8||p.x>plot[1]+8)return hide();
tip.textContent="";
var add=function(text){var d=document.createElement("div");d.textContent=text;tip.appendChild(d);};
add(svg.dataset.unit+" "+short(best));
lines.forEach(function(l){var k=-1;l.x.forEach(function(x,i){if(k<0||Math.abs(x-best)<Math.abs(l.x[k]-best))k=i;});
if(k>=0&&Math.abs(l.x[k]-best)<=reach)add(l.name+": "+short(l.y[k]));});
var px=plot[0]+(best-plot[4])/((plot[5]-plot[4])||1)*(plot[1]-plot[0]);
cursor.setAttribute("x1",px);cursor.setAttribute("x2",px);svg.appendChild(cursor);tip.hidden=false;
var box=figure.getBoundingClientRect(),x=e.clientX-box.left+14;
if(x+tip.offsetWidth>box.width)x=Math.max(0,e.clientX-box.left-tip.offsetWidth-14);
tip.style.left=x+"px";tip.style.top=e.clientY-box.top+14+"px";});});
var every=+document.documentElement.dataset.reload;
if(every>0){var key="open:"+location.pathname,all=[].slice.call(document.querySelectorAll("details"));
try{(JSON.parse(sessionStorage.getItem(key))||[]).forEach(function(i){if(all[i])all[i].open=true;});}catch(e){}
setTimeout(function(){try{sessionStorage.setItem(key,JSON.stringify(all.map(function(d,i){return d.open?i:-1;})
.filter(function(i){return i>=0;})));}catch(e){}location.reload();},every*1000);}
})();
