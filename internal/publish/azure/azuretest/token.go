package azuretest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Login is a credential that hands out tokens as Microsoft Entra ID does, but
// unsigned: Azurite looks at everything in them but the signature.
type Login struct {
	// Lasts is how long a token is good for; 0 means an hour. The SDK is told an
	// hour in any case: a token that lasts less expires while it is in use.
	Lasts time.Duration
	// Expired makes the next tokens for the blob service be no longer good when they
	// are handed out.
	Expired atomic.Int32
	asked   atomic.Int32
}

// Asked is how many tokens were handed out.
func (l *Login) Asked() int { return int(l.asked.Load()) }

// GetToken hands out a token for the blob service or for Resource Manager.
func (l *Login) GetToken(_ context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	l.asked.Add(1)
	now := time.Now()
	lasts := l.Lasts
	if lasts == 0 {
		lasts = time.Hour
	}
	audience := "https://management.core.windows.net"
	if slices.Contains(options.Scopes, "https://storage.azure.com/.default") {
		audience = "https://storage.azure.com"
		if l.Expired.Add(-1) >= 0 {
			now, lasts = now.Add(-2*time.Hour), time.Hour
		}
	}
	claims, err := json.Marshal(map[string]any{
		"aud": audience, "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(lasts).Unix(),
	})
	if err != nil {
		return azcore.AccessToken{}, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"typ":"JWT","alg":"RS256"}`)) + "." + encode(claims) + "." + encode([]byte("unsigned"))
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}
