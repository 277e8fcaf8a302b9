// Modules lie beside this file: html-manager asks for anywidget by name, and finds anywidget.js.
requirejs.config({ baseUrl: new URL(".", document.currentScript.src).href });
