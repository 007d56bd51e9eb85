# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page can do beside being read: search, filter, and open everything for the printer. Without it everything is there, too. Pure."""

from __future__ import annotations

SCRIPT = """
(function(){"use strict";
var doc=document,root=doc.documentElement;root.classList.add("js");
var find=doc.getElementById("find"),box=doc.getElementById("search"),state=doc.getElementById("state"),
cluster=doc.getElementById("cluster"),said=doc.getElementById("said");
if(!find)return;
var items=[].slice.call(doc.querySelectorAll("[data-s]")),texts=null,opened=[],
all=items.filter(function(item){return!item.dataset.x}).length;
var groups=[].slice.call(doc.querySelectorAll(".group")),sections=[].slice.call(doc.querySelectorAll("main>section"));
function index(){texts=items.map(function(item){return item.textContent.toLowerCase()})}
function wants(item,at,words,state,cluster){
if(state&&(" "+state+" ").indexOf(" "+item.dataset.s+" ")<0)return false;
if(cluster&&item.dataset.c&&(" "+item.dataset.c+" ").indexOf(" "+cluster+" ")<0)return false;
return words.every(function(word){return texts[at].indexOf(word)>=0})}
function apply(){
if(!texts)index();
var words=box.value.toLowerCase().split(/\\s+/).filter(Boolean),any=words.length||state.value||(cluster&&cluster.value),shown=0;
items.forEach(function(item,at){
var yes=!any||wants(item,at,words,state.value,cluster?cluster.value:"");
if(item.hidden===yes)item.hidden=!yes;if(yes&&!item.dataset.x)shown++});
groups.forEach(function(group){
var left=group.querySelectorAll("[data-s]:not([hidden])").length,was=group.dataset.open;
if(any&&was===undefined)group.dataset.open=group.open?"1":"";
group.hidden=!left;
if(any)group.open=left>0&&left<=200;else if(was!==undefined){group.open=was==="1";delete group.dataset.open}});
sections.forEach(function(section){
if(!section.querySelector("[data-s]"))return;
var none=!section.querySelector("[data-s]:not([hidden])"),note=section.querySelector(".nothing");
section.classList.toggle("filtered",!!any);if(note)note.hidden=!(any&&none)});
said.textContent=any?shown+" of "+all+" entries":""}
var timer;
box.addEventListener("input",function(){clearTimeout(timer);timer=setTimeout(apply,120)});
state.addEventListener("change",apply);if(cluster)cluster.addEventListener("change",apply);
find.addEventListener("submit",function(event){event.preventDefault();apply()});
doc.addEventListener("keydown",function(event){
if(event.key==="/"&&!/INPUT|SELECT|TEXTAREA/.test(doc.activeElement.tagName)){event.preventDefault();box.focus()}
if(event.key==="Escape"&&doc.activeElement===box){box.value="";apply()}});
function reveal(){var target=location.hash&&doc.getElementById(location.hash.slice(1)),up=target;
while(up){if(up.tagName==="DETAILS")up.open=true;up=up.parentElement}
if(target)target.scrollIntoView()}
addEventListener("hashchange",reveal);reveal();
addEventListener("beforeprint",function(){opened=[].slice.call(doc.querySelectorAll("details:not([open])"));
opened.forEach(function(one){one.open=true})});
addEventListener("afterprint",function(){opened.forEach(function(one){one.open=false});opened=[]});
})();
"""
