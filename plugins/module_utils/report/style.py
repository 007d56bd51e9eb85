# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the page looks: on a screen light and dark, on a phone, on paper. Pure."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--page:#f7f7f5;--card:#fff;--ink:#1b1e23;--soft:#565e68;--line:#e2e4e7;--accent:#1f5aa8;
--broken:#b3261e;--on-broken:#fff;--doubtful:#835400;--on-doubtful:#fff;
--right:#1c7347;--on-right:#fff;--unknown:#5d6570;--on-unknown:#fff;--track:#dfe2e6}
@media screen and (prefers-color-scheme:dark){:root{--page:#121418;--card:#1a1d22;--ink:#e7e9ec;--soft:#a6aeb8;--line:#2c3138;--accent:#9cc2ff;
--broken:#ff8f85;--on-broken:#2a0b08;--doubtful:#f2bd63;--on-doubtful:#2a1c02;
--right:#74cf9d;--on-right:#06251a;--unknown:#a6aeb8;--on-unknown:#15181c;--track:#333941}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-padding-top:4.5rem}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main,header.top,footer{max-width:62rem;margin:0 auto;padding:0 1.25rem}
a{color:var(--accent)}
h1{font-size:2.1rem;line-height:1.15;margin:.15rem 0 .35rem;font-weight:650;letter-spacing:-.015em;display:flex;align-items:center;gap:.75rem}
h2{font-size:1.2rem;margin:2.75rem 0 .9rem;font-weight:650;display:flex;gap:.6rem;align-items:baseline}
h2 .n{font-weight:400;font-size:.95rem}
h3{font-size:1.05rem;margin:0;font-weight:620;line-height:1.35}
p{margin:.4rem 0}
.soft,.n{color:var(--soft)}
.small{font-size:.875rem}
header.top{padding-top:2rem}
header.top .small{letter-spacing:.01em}
header.top h1 .sign{width:2rem;height:2rem}
.lead{font-size:1.1rem;max-width:48rem}
.facts{display:flex;flex-wrap:wrap;gap:.35rem 2.2rem;margin:1.1rem 0 0;padding:0;list-style:none}
.facts b{font-weight:620;font-variant-numeric:tabular-nums}
.defs{position:absolute}
.sign{width:1.15em;height:1.15em;flex:none;vertical-align:-.22em}
.mark circle{fill:var(--c)}.mark path{fill:none;stroke:var(--on);stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}
.broken{--c:var(--broken);--on:var(--on-broken)}.doubtful{--c:var(--doubtful);--on:var(--on-doubtful)}
.right{--c:var(--right);--on:var(--on-right)}.unknown{--c:var(--unknown);--on:var(--on-unknown)}
.badge{font-size:.8125rem;color:var(--soft);border:1px solid var(--line);border-radius:1rem;padding:.02rem .55rem;white-space:nowrap;max-width:100%;
overflow:hidden;
text-overflow:ellipsis}
.find{position:sticky;top:0;z-index:2;background:var(--page);border-bottom:1px solid var(--line);margin-top:1.6rem;padding:.6rem 0;display:none;
gap:.6rem;flex-wrap:wrap;align-items:center}
.js .find{display:flex}
.find input,.find select{font:inherit;color:inherit;background:var(--card);border:1px solid var(--soft);border-radius:.5rem;padding:.4rem .7rem;
min-height:2.5rem}
.find input{flex:1 1 14rem;min-width:0}
.find output{color:var(--soft);font-size:.875rem;flex:0 0 auto}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.card{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1rem 1.15rem;margin:0 0 .75rem;content-visibility:auto;
contain-intrinsic-size:auto 9rem}
.finding{border-left:4px solid var(--c)}
.finding .head{display:flex;gap:.6rem;align-items:flex-start;flex-wrap:wrap}
.finding .head .sign{margin-top:.15rem;width:1.3rem;height:1.3rem}
.finding h3{flex:1 1 16rem}
.finding .hits{margin:.35rem 0}
.do{margin:.55rem 0;padding-left:.9rem;border-left:2px solid var(--line)}
.do b{display:block;font-size:.8125rem;font-weight:620;color:var(--soft)}
.evidence{overflow-wrap:anywhere}
details>summary{cursor:pointer;list-style:none}
details>summary::-webkit-details-marker{display:none}
details>summary::before{content:"";display:inline-block;flex:none;width:.42em;height:.42em;border-right:2px solid var(--soft);
border-bottom:2px solid var(--soft);transform:rotate(-45deg);margin:0 .6em .12em .1em}
details[open]>summary::before{transform:rotate(45deg)}
.more{margin-top:.4rem}
.more>summary{color:var(--soft);font-size:.875rem}
ul.plain{margin:.4rem 0;padding:0;list-style:none}
ul.dots{margin:.4rem 0;padding-left:1.2rem}
li{overflow-wrap:anywhere}
.rows{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:0;margin:0 0 .75rem;list-style:none;overflow:hidden}
.row{border-top:1px solid var(--line)}
.rows>:first-child,.rows>:first-child>.row{border-top:0}
.row>summary,.row.flat{display:flex;align-items:center;gap:.2rem .65rem;padding:.6rem 1rem;flex-wrap:wrap}
.row>summary:hover{background:color-mix(in srgb,var(--line) 35%,transparent)}
.row>summary::before{margin-right:0}
.row .name{flex:1 1 14rem;min-width:0;overflow-wrap:anywhere;font-weight:560}
.row .name .note{display:block;font-weight:400}
.row .note{color:var(--soft);font-size:.875rem;overflow-wrap:anywhere}
.row.flat .wide{flex:2 1 20rem}
.row .tail{display:flex;align-items:center;gap:.2rem .65rem;flex-wrap:wrap}
.row .inside{padding:.2rem 1rem 1rem}
.row.broken .note.state,.row.broken .ends{color:var(--broken);font-weight:600}.row.doubtful .ends{color:var(--doubtful);font-weight:600}
.way{display:block;margin:.6rem 0 .2rem}
.way line{stroke:var(--soft);stroke-width:1.5}
.way .cut{stroke:var(--soft);stroke-dasharray:2 5;opacity:.7}
.node{overflow:visible}
.node>circle{fill:var(--card);stroke:var(--soft);stroke-width:1.5}
.icon{fill:none;stroke:currentColor;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}
.node text{text-anchor:middle;fill:var(--ink)}
.node .label{font-size:13px;font-weight:560}
.node .what{font-size:11.5px;fill:var(--soft)}
.node.broken>circle{fill:var(--broken);stroke:var(--broken)}
.node.broken>use:first-of-type{color:var(--on-broken)}
.node.broken .label{fill:var(--broken);font-weight:680}
.node.broken .mark circle{stroke:var(--card);stroke-width:1.5}
.node.doubtful>circle{stroke:var(--doubtful);stroke-width:2}
.node.doubtful .label{fill:var(--doubtful)}
.node.seen>circle{stroke:var(--broken)}
.node.unknown>circle{stroke-dasharray:3 3}
.node.none>circle{stroke:var(--line)}.node.none{color:var(--soft)}.node.none .label{fill:var(--soft);font-weight:400}
.stages{margin:.5rem 0 0;padding:0;list-style:none;font-size:.9375rem}
.stages li{display:grid;grid-template-columns:1.3rem 9.5rem 1fr;gap:.5rem;padding:.22rem 0;align-items:baseline}
.stages .sign{width:1rem;height:1rem;align-self:start;margin-top:.22rem}
.stages .broken b{color:var(--broken)}
.stages b{font-weight:560}
.timeline{display:block;margin:.4rem 0 1rem}
.timeline .axis{stroke:var(--soft)}
.timeline .now{stroke:var(--soft);stroke-dasharray:2 3}
.timeline .tick{font-size:11.5px;fill:var(--soft);text-anchor:middle}
.timeline .first{text-anchor:start}
.timeline rect{fill:var(--c);rx:1.5px}
.timeline rect.right{fill:color-mix(in srgb,var(--soft) 62%,var(--card))}
.group>summary{padding:.55rem 1rem;font-weight:600;display:flex;align-items:center;gap:.5rem}
.group{border-top:1px solid var(--line)}
.life{display:block;width:5.5rem;flex:none}
.life .track{fill:var(--track)}.life .gone{fill:var(--soft)}.life .gone.broken,.life .gone.doubtful{fill:var(--c)}
.ends{flex:0 0 auto;font-variant-numeric:tabular-nums;white-space:nowrap;min-width:7.5rem;text-align:right}
.date{flex:0 0 auto;font-variant-numeric:tabular-nums;color:var(--soft);min-width:6rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.3rem 0;font-size:.9rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
code,pre{font:.85em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{overflow:auto;background:var(--page);padding:.7rem;border-radius:.5rem;margin:.4rem 0}
.tree,.tree ul{list-style:none;margin:0;padding-left:1.4rem}
.tree{padding-left:.2rem}
.tree li{position:relative;padding:.18rem 0}
.tree ul>li::before{content:"";position:absolute;left:-.9rem;top:0;height:1.05rem;width:.65rem;border-left:1.5px solid var(--line);
border-bottom:1.5px solid var(--line);border-bottom-left-radius:.3rem}
.tree ul>li:not(:last-child)::after{content:"";position:absolute;left:-.9rem;top:0;bottom:0;border-left:1.5px solid var(--line)}
.tree .sign{margin-right:.35rem}
.scroll{position:relative;overflow:auto;border:1px solid var(--line);border-radius:.75rem;background:var(--card);max-height:32rem}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:.9375rem}
th,td{padding:.45rem .8rem;text-align:left;border-top:1px solid var(--line);vertical-align:baseline}
thead th{border-top:0;color:var(--soft);font-weight:500;font-size:.875rem;position:sticky;top:0;background:var(--card);white-space:nowrap}
.matrix-title{margin:1.4rem 0 .6rem}
.matrix th[scope=row]{position:sticky;left:0;background:var(--card);font-weight:560;min-width:9rem;max-width:18rem;overflow-wrap:break-word}
.scroll th[scope=row]{white-space:nowrap}
.matrix td,.matrix thead th+th{text-align:center}
td.when{white-space:nowrap}
.scroll .matrix th[scope=row]{white-space:normal}
.matrix td .sign{vertical-align:middle}
.many .row{content-visibility:auto;contain-intrinsic-size:auto 2.9rem}
.many .card{content-visibility:auto;contain-intrinsic-size:auto 9rem}
.hide{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.empty{color:var(--soft);padding:.6rem 1rem}
[hidden]{display:none!important}
footer{padding-top:2.5rem;padding-bottom:3rem;color:var(--soft);font-size:.875rem}
@media (max-width:40rem){
body{font-size:15.5px}main,header.top,footer{padding-left:.9rem;padding-right:.9rem}
header.top{padding-top:1.2rem}h1{font-size:1.65rem}h2{margin-top:2.1rem}
.node .what{display:none}.way{height:78px}.node .label{font-size:11.5px}
.stages li{grid-template-columns:1.3rem 1fr;gap:0 .5rem}.row.flat .sign{order:-2}.stages li span{grid-column:2}
.tick.far{display:none}.life{display:none}
.row>summary,.row.flat{display:grid;grid-template-columns:auto auto 1fr;padding:.6rem .75rem}.row.flat{grid-template-columns:auto 1fr}
.row .tail{grid-column:3}.row.flat .tail{grid-column:2}
.date{min-width:0}.ends{min-width:0;text-align:left}
.find{position:static;padding:.45rem 0;gap:.45rem}.find input{flex-basis:100%}.find select{flex:1 1 7rem;min-width:0}.find output{flex-basis:100%}
dl{grid-template-columns:1fr}dt{margin-top:.3rem}
}
@media print{
:root{--page:#fff}
@page{margin:14mm}
body{font-size:10.5pt}main,header.top,footer{max-width:none;padding:0}
.find,.js .find{display:none}
.card,.row,.stages li{break-inside:avoid;content-visibility:visible}
.scroll{max-height:none;overflow:visible}
.row,.card,.group,details{content-visibility:visible}
details::details-content{content-visibility:visible;display:block}
summary::before,.more>summary{display:none!important}
th,td{padding:.3rem .45rem;font-size:9pt}.scroll th[scope=row],td.when{white-space:normal}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
h2{break-after:avoid}a{color:inherit;text-decoration:none}
}
"""
