package inject

import "reflect"

// graft applies what changed from base to changed onto own. base and changed
// come from istioctl and lack the fields that it does not know; own has them, and
// what istioctl left alone stays there as it is.
func graft(own, base, changed any) any {
	if reflect.DeepEqual(base, changed) {
		return own
	}
	switch changed := changed.(type) {
	case map[string]any:
		ownMap, ok1 := own.(map[string]any)
		baseMap, ok2 := base.(map[string]any)
		if ok1 && ok2 {
			return graftMap(ownMap, baseMap, changed)
		}
	case []any:
		ownList, ok1 := own.([]any)
		baseList, ok2 := base.([]any)
		if ok1 && ok2 && len(ownList) == len(baseList) {
			return graftList(ownList, baseList, changed)
		}
	}
	return changed
}

func graftMap(own, base, changed map[string]any) map[string]any {
	out := make(map[string]any, len(own))
	for k, v := range own {
		_, before := base[k]
		_, after := changed[k]
		if before && !after {
			continue // taken away
		}
		out[k] = v
	}
	for k, v := range changed {
		b, before := base[k]
		o, mine := own[k]
		switch {
		case before && mine:
			out[k] = graft(o, b, v)
		case !before || !reflect.DeepEqual(b, v):
			out[k] = v
		}
	}
	return out
}

// graftList keeps the order of changed. Its entries are those of base that are
// equal or, failing that, have the same name; base and own have the same order.
func graftList(own, base, changed []any) []any {
	out := make([]any, len(changed))
	used := make([]bool, len(base))
	place := func(entry any) int {
		for i, b := range base {
			if !used[i] && reflect.DeepEqual(b, entry) {
				return i
			}
		}
		for i, b := range base {
			if !used[i] && sameName(b, entry) {
				return i
			}
		}
		return -1
	}
	for i, entry := range changed {
		j := place(entry)
		if j < 0 {
			out[i] = entry
			continue
		}
		used[j] = true
		out[i] = graft(own[j], base[j], entry)
	}
	return out
}

func sameName(a, b any) bool {
	x, ok1 := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	return ok1 && ok2 && nameOf(x) != "" && nameOf(x) == nameOf(y)
}
