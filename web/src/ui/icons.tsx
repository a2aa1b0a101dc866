// The page's drawings: 24 × 24, one stroke, in the colour of the text around them.

const paths = {
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  search: "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14zM16.200 16.200L20 20",
  send: "M12 19V5M6 11l6-6l6 6",
  stop: "M8 8h8v8H8z",
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "M5 12.500l4.500 4.500L19 7.500",
  edit: "M4 20l1-4.500L16.500 4l3.500 3.500L8.500 19zM14 6.500l3.500 3.500",
  trash: "M5 7h14M10 7V4.500h4V7M7 7l1 13h8l1-13M10.500 11v5.500M13.500 11v5.500",
  refresh: "M19 12a7 7 0 1 1-2.200-5.100M19.500 3.500V8H15",
  forward: "M5 5l8 7l-8 7zM17 5v14",
  left: "M14.500 6l-6 6l6 6",
  right: "M9.500 6l6 6l-6 6",
  down: "M6 9.500l6 6l6-6",
  sliders: "M4 8h9M17 8h3M15 6v4M4 16h3M11 16h9M9 14v4",
  gear: "M12 9a3 3 0 1 0 0 6a3 3 0 0 0 0-6zM12 3v3M12 18v3M3 12h3M18 12h3M5.600 5.600l2.100 2.100M16.300 16.300l2.100 2.100M5.600 18.400l2.100-2.100M16.300 7.700l2.100-2.100",
  sun: "M12 8a4 4 0 1 0 0 8a4 4 0 0 0 0-8zM12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400",
  moon: "M19.500 14.500A8 8 0 0 1 9.500 4.500a8 8 0 1 0 10 10z",
  auto: "M12 4a8 8 0 1 0 0 16a8 8 0 0 0 0-16zM12 4v16M12 8l6-2M12 12h8M12 16l6 2",
  chat: "M4 5h16v11H10l-4.500 3.500V16H4z",
  pulse: "M3 12h4l2.500-6l4 12l2.500-6h5",
  tool: "M14.500 6.500a4 4 0 0 1 5-1l-2.500 2.500l.500 1.500l1.500.500L21 8a4 4 0 0 1-5.500 4.500L8 20l-3-3l7.500-7.500a4 4 0 0 1 2-3z",
  warning: "M12 4l9 16H3zM12 10v4.500M12 17.300v.200",
  download: "M12 4v11M7 10.500l5 5l5-5M5 20h14",
};

export type IconName = keyof typeof paths;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}

/** Three waves, each narrower and darker: light going down into the sea. */
export function Logo() {
  return (
    <svg class="logo" width="28" height="28" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path class="logo-1" d="M5 10c3.700-3.800 7.300-3.800 11 0s7.300 3.800 11 0" />
      <path class="logo-2" d="M8 17.300c2.700-2.800 5.300-2.800 8 0s5.300 2.800 8 0" />
      <path class="logo-3" d="M11 24c1.700-1.800 3.300-1.800 5 0s3.300 1.800 5 0" />
    </svg>
  );
}
