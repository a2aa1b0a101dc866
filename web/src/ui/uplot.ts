// A chunk of its own: only the live view needs it.
import "uplot/dist/uPlot.min.css";

export { default } from "uplot";
