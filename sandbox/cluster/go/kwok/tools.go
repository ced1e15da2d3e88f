//go:build tools

// Package tools is why go.mod requires kwok, which needs another Kubernetes' modules than this cluster.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
