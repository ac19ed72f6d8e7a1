metadata name = 'Roles'
metadata description = 'The built-in roles that this deployment may give, and no others.'

@export()
@description('Ids of built-in roles; they are the same in all clouds.')
var roleIds = {
  AcrPull: '7f951dda-4ed3-4680-a7ca-43fe172d538d'
  'Azure Service Bus Data Receiver': '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0'
  'Azure Service Bus Data Sender': '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39'
  'Key Vault Secrets User': '4633458b-17de-408a-b874-0445c86b69e6'
  Reader: 'acdd72a7-3385-48ef-bd42-f606fba81ae7'
  'Storage Blob Data Contributor': 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  'Storage Blob Data Reader': '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
}

@export()
@description('Somebody who gets a role. The type of principal spares Azure a look-up that may come too early for a new identity.')
type principalType = {
  principalId: string
  principalType: 'Group' | 'ServicePrincipal' | 'User'
}

@export()
@description('A built-in role for somebody, by the name that it has in roleIds.')
type roleAssignmentType = {
  principalId: string
  principalType: 'Group' | 'ServicePrincipal' | 'User'
  role: string
}
